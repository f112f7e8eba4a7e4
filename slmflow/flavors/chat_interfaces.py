"""Call any logged chat model through its MLflow signature."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel

from slmflow.errors import UserError
from slmflow.runtime.generation.reasoning import ReasoningFormat

REASONING_METADATA = "slmflow_reasoning"
"""Key of a logged model's metadata: the `ReasoningFormat` of its answers, as JSON."""

BASE_MODEL_METADATA = {"slmflow_chat_template": "none"}
"""Metadata of a logged base model: without a chat template, it continues prompts."""


@dataclass(frozen=True)
class Completion:
    """The text that a model generated; token counts are None where the model reports none.

    reasoning: what a thinking model wrote before the text, empty if nothing.
    """

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning: str = ""


@dataclass(frozen=True)
class ChatInterface:
    """How to call a model: the request fields of its signature, and how to parse its output.

    input_field: takes the messages or the prompt; max_tokens_field: limits the completion, None
    where the interface has no such field; parse: raises a lookup error or TypeError for output of
    another form; reasoning: how the texts of the model contain reasoning.
    """

    input_field: str
    max_tokens_field: str | None
    parse: Callable[[Any], Completion]
    reasoning: ReasoningFormat = field(default_factory=ReasoningFormat)

    @property
    def takes_prompt(self) -> bool:
        """Whether a request is a single prompt, not a conversation."""
        return self.input_field == "prompt"

    def parse_completion(self, output: Any) -> Completion:
        """Parse the output for one request, and split its reasoning off.

        Raises UserError if it does not fit the interface.
        """
        try:
            completion = self.parse(output)
            if completion.reasoning or not isinstance(completion.text, str):
                return completion
            split = self.reasoning.split(completion.text)
            return replace(completion, text=split.answer, reasoning=split.reasoning)
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError) as error:
            raise UserError(
                f"the model's output for {self.input_field} does not fit its interface: "
                f"{output!r:.200}"
            ) from error


def input_names(metadata: Model) -> list[str]:
    """Return the input names of a model's signature; an empty list if it names none."""
    schema = metadata.get_input_schema()
    return list(schema.input_names()) if schema and schema.has_input_names() else []


def find_interface(metadata: Model) -> ChatInterface:
    """Return the interface of a model. Raises UserError if it is not a chat model."""
    names = input_names(metadata)
    for interface in (_CHAT, _RESPONSES):
        if interface.input_field in names:
            return replace(interface, reasoning=_reasoning_format(metadata))
    if names == [_PROMPT.input_field]:
        return _PROMPT
    raise UserError(
        f"not a chat model: its signature takes {', '.join(names) or 'no named input'}, but "
        "messages (llm/v1/chat, ChatAgent), input (ResponsesAgent) or a prompt is required"
    )


def is_base_model(metadata: Model) -> bool:
    """Return whether a model was logged as one without a chat template."""
    return BASE_MODEL_METADATA.items() <= (metadata.metadata or {}).items()


def request_completion(
    model: PyFuncModel, messages: Sequence[Mapping[str, str]], **options: Any
) -> Completion:
    """Send one conversation to a loaded model and return its completion.

    options: other request fields, e.g. `max_tokens=1`; the model's logged defaults apply to the
    rest. A model with a prompt interface takes no options and only a single message; UserError is
    raised for a longer conversation.
    """
    interface = find_interface(model.metadata)
    value: Any = list(messages)
    if interface.takes_prompt:
        value, options = _single_prompt(messages), {}
    output: Any = model.predict(pd.DataFrame([{interface.input_field: value, **options}]))
    # The transformers flavor and ours return a list with one item per row, agents a single output.
    return interface.parse_completion(output[0] if isinstance(output, list) else output)


def _reasoning_format(metadata: Model) -> ReasoningFormat:
    """Return how a model's answers contain reasoning: as logged with it, or as is usual.

    MLflow's transformers flavor returns all text, and none of a start tag in the prompt.
    """
    if recorded := (metadata.metadata or {}).get(REASONING_METADATA):
        return ReasoningFormat.from_json(recorded)
    return ReasoningFormat(may_lack_start="transformers" in metadata.flavors)


def _single_prompt(messages: Sequence[Mapping[str, str]]) -> str:
    if len(messages) > 1:
        raise UserError(
            f"the model takes a prompt, but a row is a conversation of {len(messages)} "
            "messages: evaluate a model that takes messages, or leave out evaluation.system, "
            "evaluation.examples and rows with messages"
        )
    return messages[0]["content"]


def _parse_chat(output: Any) -> Completion:
    """Parse a chat completion, or the output of MLflow's ChatAgent (a list of new messages)."""
    if "messages" in output:
        return Completion(output["messages"][-1]["content"])
    message = output["choices"][0]["message"]
    usage = output.get("usage") or {}
    return Completion(
        message["content"] or "",
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        message.get("reasoning_content") or "",
    )


def _parse_response(output: Any) -> Completion:
    """Parse the output of MLflow's ResponsesAgent, which follows OpenAI's Responses API."""
    message = next(item for item in reversed(output["output"]) if item["type"] == "message")
    text = "".join(part["text"] for part in message["content"] if part["type"] == "output_text")
    usage = output.get("usage") or {}
    return Completion(text, usage.get("input_tokens"), usage.get("output_tokens"))


_CHAT = ChatInterface("messages", "max_tokens", _parse_chat)
_RESPONSES = ChatInterface("input", "max_output_tokens", _parse_response)
# MLflow's transformers flavor strips the text, so the other flavor's is stripped too.
_PROMPT = ChatInterface("prompt", None, lambda text: Completion(text.strip()))
