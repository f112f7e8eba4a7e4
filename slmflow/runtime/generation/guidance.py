"""What constrains a completion to a form: a JSON schema, a grammar or a regular expression."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import reject
from .json_schema import bound, longest_closing, reject_long_lists

# Otherwise llguidance allows white space around any value, and a model may generate it to the end.
_COMPACT_JSON = {"x-guidance": {"whitespace_flexible": False}}


@dataclass(frozen=True)
class Guidance:
    """A constraint as ONNX Runtime GenAI's `set_guidance` takes it.

    param: the field of the request that asks for it. closing: of a form that contains JSON, about
    the longest text that completes what may be open (see `json_schema.longest_closing`); without it
    nothing is closed in time.
    """

    kind: Literal["json_schema", "lark_grammar", "regex"]
    text: str
    param: str = "response_format"
    closing: str | None = None


def guide_json(schema: Mapping[str, Any], param: str) -> Guidance:
    """Return the guidance to compact JSON of a schema, which may ask for other white space.

    Integers and objects are bounded. Raises MlflowException (HTTP 400), which names the field
    `param`, for lists that are too long.
    """
    reject_long_lists(schema, param)
    text = json.dumps(_COMPACT_JSON | bound(schema))
    return Guidance("json_schema", text, param, longest_closing(schema))


def parse_response_format(value: Any) -> Guidance | None:
    """Return the guidance of an OpenAI `response_format`, None for free text.

    Raises MlflowException (HTTP 400) for another value.
    """
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return guide_json({"type": "object"}, "response_format")
    json_schema = value.get("json_schema") if kind == "json_schema" else None
    schema = json_schema.get("schema") if isinstance(json_schema, Mapping) else None
    if not isinstance(schema, Mapping):
        reject(
            f"response_format={value!r}: must be {{'type': 'text'}}, {{'type': 'json_object'}} or "
            "{'type': 'json_schema', 'json_schema': {'schema': {...}}}",
            param="response_format",
        )
    return guide_json(schema, "response_format")
