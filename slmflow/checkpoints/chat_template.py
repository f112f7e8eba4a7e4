"""Try a model's chat template before anything else uses it."""

from pathlib import Path

from jinja2.exceptions import SecurityError
from mlflow.exceptions import MlflowException

from slmflow.errors import UserError
from slmflow.runtime.prompts.template import ChatTemplate

_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    *_QUESTION,
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Peru?"},
]


def check(folder: Path, model: str) -> None:
    """Raise UserError for a template that exceeds the sandbox's limits or breaks its rules.

    transformers renders the same template in a sandbox without limits. A missing template and a
    template that itself rejects a conversation, such as one with a system message, both pass.
    """
    try:
        template = ChatTemplate(folder)
    except MlflowException as error:
        raise UserError(f"{model}: {error.message}: get the model again") from error
    for messages in (_QUESTION, _CONVERSATION):
        try:
            template.render(messages)
        except MlflowException as error:
            if isinstance(error.__context__, SecurityError | RecursionError):
                raise UserError(f"{model}: {error.message}: do not trust this model") from error
