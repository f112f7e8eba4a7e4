"""The chat template of a model, tried before anything else uses it."""

from pathlib import Path

from jinja2.exceptions import SecurityError
from mlflow.exceptions import MlflowException

from slmflow.errors import UserError
from slmflow.runtime.prompts.template import ChatTemplate

_TURN = [{"role": "user", "content": "What is the capital of France?"}]
_TURNS = [
    {"role": "system", "content": "Be brief."},
    *_TURN,
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Peru?"},
]


def check(folder: Path, model: str) -> None:
    """Raise UserError for a template that does too much, or what the sandbox forbids.

    transformers renders the same template in a sandbox without bounds. What a template refuses
    itself, such as a system message, is no fault, nor is that there is none.
    """
    try:
        template = ChatTemplate(folder)
    except MlflowException as error:
        raise UserError(f"{model}: {error.message}: get the model anew") from error
    for messages in (_TURN, _TURNS):
        try:
            template.render(messages)
        except MlflowException as error:
            if isinstance(error.__context__, SecurityError | RecursionError):
                raise UserError(f"{model}: {error.message}: do not trust this model") from error
