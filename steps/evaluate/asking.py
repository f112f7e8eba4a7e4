"""Ask a loaded MLflow model through its public interface, whichever of the two it has."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow.pyfunc import PyFuncModel


@dataclass(frozen=True)
class Reply:
    """The text of an answer; the token counts are None where the interface does not tell them."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def chats(model: PyFuncModel) -> bool:
    """Return whether the model takes `messages` (`llm/v1/chat`) rather than a `prompt`."""
    return "messages" in model.metadata.get_input_schema().input_names()


def messages(question: str) -> list[dict[str, str]]:
    """Return the conversation that a question opens."""
    return [{"role": "user", "content": question}]


def ask(model: PyFuncModel, question: str, **options: Any) -> Reply:
    """Send one row and return the reply.

    `options` are other fields of a chat request, e.g. `max_tokens=1`; what they do not say is as
    the model was logged.
    """
    if not chats(model):
        texts: Any = model.predict(pd.DataFrame([{"prompt": question}]))
        return Reply(texts[0])
    request = pd.DataFrame([{"messages": messages(question), **options}])
    completions: Any = model.predict(request)
    usage = completions[0]["usage"]
    return Reply(
        text=completions[0]["choices"][0]["message"]["content"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )
