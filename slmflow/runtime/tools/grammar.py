"""The grammar that holds a completion to calls of its tools, in the model's own format."""

import json
from collections.abc import Iterator, Mapping

from ..generation.guidance import Guidance, guide_json
from .declarations import ToolRequest
from .formats import ToolFormat

MAX_CALLS = 8
"""The most calls of one completion: a small model may otherwise repeat one without end."""

# As chat templates write JSON, so that the model reads the arguments as it has learned them.
_JSON_STYLE = {
    "x-guidance": {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
    }
}


def guide_calls(request: ToolRequest, format_: ToolFormat) -> Guidance:
    """Return the guidance to one call of a tool, or to several, whose arguments fit its schema.

    Raises MlflowException (HTTP 400), which names the field `tools`, for a schema beyond limits.
    """
    rules, closing = _calls(request, format_)
    return Guidance("lark_grammar", "\n".join(["start: calls", *rules]), "tools", closing)


def guide_answer_or_calls(answer: Guidance, request: ToolRequest, format_: ToolFormat) -> Guidance:
    """Return the guidance to either JSON of an answer's schema, or calls. Raises as above."""
    rules, closing = _calls(request, format_)
    lines = ["start: answer | calls", f"answer: %json {answer.text}", *rules]
    longest = max(closing, answer.closing or "", key=len)
    return Guidance("lark_grammar", "\n".join(lines), answer.param, longest)


def _calls(request: ToolRequest, format_: ToolFormat) -> tuple[list[str], str]:
    """Return the rules of a grammar for calls, and the longest text that completes one."""
    arguments = {
        name: guide_json({**schema, **_JSON_STYLE}, "tools")
        for name, schema in request.schemas.items()
    }
    closings = [format_.write([(name, each.closing or "")]) for name, each in arguments.items()]
    rules = _rules(arguments, format_, parallel=request.parallel)
    return list(rules), max(closings, key=len)


def _rules(
    arguments: Mapping[str, Guidance], format_: ToolFormat, *, parallel: bool
) -> Iterator[str]:
    """Yield the rules of a grammar in the Lark dialect of llguidance.

    arguments: the guidance to those of each tool.
    """
    start, end = _tag(format_, format_.start), _tag(format_, format_.end)
    padding, between = json.dumps(format_.padding), json.dumps(format_.between)
    calls = f"call ({between} call){{0,{MAX_CALLS - 1}}}" if parallel else "call"
    call = "object"
    if format_.is_list:
        calls = f'{start} "[" {calls} "]" {end}'
    elif not format_.is_bare:
        call = f"{start} {padding} object {padding} {end}"
    yield f"calls: {calls}"
    yield f"call: {call}"
    yield f"object: {' | '.join(f'tool_{index}' for index in range(len(arguments)))}"
    for index, (name, guidance) in enumerate(arguments.items()):
        yield f'tool_{index}: {json.dumps(format_.head(name))} arguments_{index} "}}"'
        yield f"arguments_{index}: %json {guidance.text}"


def _tag(format_: ToolFormat, text: str) -> str:
    """Return a tag as its token, which has no other spelling if it is special, or as text."""
    special = [token for token, content in format_.special.items() if content == text]
    return f"<[{special[0]}]>" if special else json.dumps(text)
