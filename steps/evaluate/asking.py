"""Ask a loaded MLflow model through its public interface, whichever of the two it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.pyfunc import PyFuncModel

from steps.common.errors import UserError
from steps.common.rows import Message


@dataclass(frozen=True)
class Reply:
    """The text of an answer; the token counts are None where the interface does not tell them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def chats(model: PyFuncModel) -> bool:
    """Return whether the model takes `messages` (`llm/v1/chat`) rather than a `prompt`."""
    return "messages" in model.metadata.get_input_schema().input_names()


def ask(model: PyFuncModel, messages: Sequence[Message], **options: Any) -> Reply:
    """Send one conversation and return the reply.

    `options` are other fields of a chat request, e.g. `max_tokens=1`; what they do not say is as
    the model was logged. A prompt is the content of the one message there is: UserError is raised
    where there are more.
    """
    if not chats(model):
        if len(messages) > 1:
            raise UserError(
                f"the model takes a prompt, but a row is a conversation of {len(messages)} "
                "messages: evaluate one that takes messages, or leave out evaluation.system, "
                "evaluation.examples and rows with messages"
            )
        texts: Any = model.predict(pd.DataFrame([{"prompt": messages[0]["content"]}]))
        return Reply(texts[0])
    request = pd.DataFrame([{"messages": list(messages), **options}])
    completions: Any = model.predict(request)
    usage = completions[0]["usage"]
    return Reply(
        text=completions[0]["choices"][0]["message"]["content"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )
