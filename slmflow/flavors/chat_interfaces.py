"""Ask a loaded MLflow model through its public interface, whichever of the known ones it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Message
from slmflow.errors import UserError


@dataclass(frozen=True)
class Reply:
    """The text of an answer; the token counts are None where the interface does not tell them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Interface:
    """How a model is asked: the fields of its signature, and how its reply is read.

    `conversation` takes the messages, and `most_tokens`, where there is one, bounds the answer.
    """

    conversation: str
    most_tokens: str | None
    read: Callable[[Any], Reply]

    def reply(self, said: Any) -> Reply:
        """Return what a model said to one conversation. Raises UserError where it is none."""
        try:
            return self.read(said)
        except (AttributeError, IndexError, KeyError, StopIteration, TypeError) as error:
            raise UserError(
                f"its answer to {self.conversation} is not as its interface has it: {said!r:.200}"
            ) from error


def inputs(model: PyFuncModel) -> list[str]:
    """Return the names of what a model's signature takes, none where it has no signature."""
    return _taken(model.metadata)


def interface(model: PyFuncModel) -> Interface:
    """Return how a model is asked. Raises UserError where it is no chat model."""
    return interface_of(model.metadata)


def interface_of(metadata: Model) -> Interface:
    """Return how a model is asked that is not loaded, as `interface` does."""
    taken = _taken(metadata)
    for each in (_CHAT, _RESPONSES):
        if each.conversation in taken:
            return each
    if taken == [_PROMPT.conversation]:
        return _PROMPT
    raise UserError(
        f"it is no chat model: its signature takes {', '.join(taken) or 'nothing by name'}, where "
        "messages are wanted (llm/v1/chat, ChatAgent), input (ResponsesAgent) or a prompt"
    )


def ask(model: PyFuncModel, messages: Sequence[Message], **options: Any) -> Reply:
    """Send one conversation and return the reply.

    `options` are other fields of the request, e.g. `max_tokens=1`; what they do not say is as the
    model was logged. A prompt is the content of the one message there is: UserError is raised where
    there are more.
    """
    asked = interface(model)
    given: Any = list(messages)
    if asked is _PROMPT:
        given, options = _only(messages), {}
    request = pd.DataFrame([{asked.conversation: given, **options}])
    replied: Any = model.predict(request)
    # MLflow's transformers flavor and ours answer row by row; its ChatModel and agents the one.
    return asked.reply(replied[0] if isinstance(replied, list) else replied)


def _taken(metadata: Model) -> list[str]:
    schema = metadata.get_input_schema()
    return list(schema.input_names()) if schema and schema.has_input_names() else []


def _only(messages: Sequence[Message]) -> str:
    if len(messages) > 1:
        raise UserError(
            f"the model takes a prompt, but a row is a conversation of {len(messages)} "
            "messages: evaluate one that takes messages, or leave out evaluation.system, "
            "evaluation.examples and rows with messages"
        )
    return messages[0]["content"]


def _of_chat(completion: Any) -> Reply:
    """Read a chat completion, or what MLflow's ChatAgent gives: the messages it adds."""
    if "messages" in completion:
        return Reply(completion["messages"][-1]["content"])
    text = completion["choices"][0]["message"]["content"]
    usage = completion.get("usage") or {}
    return Reply(text or "", usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _of_response(response: Any) -> Reply:
    """Read what MLflow's ResponsesAgent gives, as OpenAI's Responses API has it."""
    said = next(item for item in reversed(response["output"]) if item["type"] == "message")
    text = "".join(part["text"] for part in said["content"] if part["type"] == "output_text")
    usage = response.get("usage") or {}
    return Reply(text, usage.get("input_tokens"), usage.get("output_tokens"))


_CHAT = Interface("messages", "max_tokens", _of_chat)
_RESPONSES = Interface("input", "max_output_tokens", _of_response)
_PROMPT = Interface("prompt", None, Reply)
