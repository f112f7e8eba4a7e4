"""Requests to models that speak an older version of `slmflow.runtime.protocol`."""

from collections.abc import Mapping
from typing import Any

from slmflow.runtime.tools.declarations import FIELDS as TOOL_FIELDS
from slmflow.serving.errors import RequestError
from slmflow.serving.openai_requests import StreamOptions

# Options that version 2 brought.
_NEWER_OPTIONS = (
    *("reasoning_effort", "logprobs", "top_logprobs", "echo", "min_p", "logit_bias"),
    *TOOL_FIELDS,
)

# Of some, values that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "reasoning_effort": ("none",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
}


def adapt(body: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return the body of a request as a model of this version of the protocol takes it.

    Raises RequestError for an option that needs a newer version.
    """
    adapted = dict(body)
    if version >= 2:
        return adapted
    if "max_completion_tokens" in adapted:
        if "max_tokens" in adapted:
            raise RequestError(
                "max_tokens and max_completion_tokens are the same option: give one of them",
                param="max_completion_tokens",
            )
        adapted["max_tokens"] = adapted.pop("max_completion_tokens")
    for name in _NEWER_OPTIONS:
        if name in adapted:
            value = adapted.pop(name)
            if not any(type(value) is type(n) and value == n for n in _NEUTRAL.get(name, ())):
                raise _needs_newer_model(name, name)
    if isinstance(adapted.get("prompt"), list):
        raise _needs_newer_model("a prompt of token ids", "prompt")
    return adapted


def check_stream_options(options: StreamOptions, version: int) -> None:
    """Raise RequestError for counts in every chunk, which older models do not send."""
    if options.continuous_usage_stats and version < 2:
        raise _needs_newer_model("continuous_usage_stats in stream_options", "stream_options")


def _needs_newer_model(what: str, param: str) -> RequestError:
    return RequestError(
        f"{what} needs a model that a newer slmflow has logged: leave it out, or log the model "
        "again with `mlflow run . -e log_genai`",
        param=param,
    )
