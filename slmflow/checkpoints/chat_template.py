"""Try a model's chat template before anything else uses it, or replace it by the user's."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2.exceptions import SecurityError
from mlflow.exceptions import MlflowException

from slmflow.checkpoints.files import (
    CHAT_TEMPLATE,
    PROCESSOR_TEMPLATE,
    TEMPLATES_FOLDER,
    TOKENIZER_CONFIG,
    read_json_object,
    write_json,
)
from slmflow.errors import BadArguments, UserError
from slmflow.runtime.prompts import template_variables
from slmflow.runtime.prompts.template import ChatTemplate

_REQUIRED = "give a chat template in Jinja, such as the one of the model's instruct version"

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


def check_variables(folder: Path, variables: Mapping[str, Any]) -> None:
    """Raise BadArguments for a variable of `generation.template` that the template cannot take."""
    if not variables:
        return
    template = ChatTemplate(folder)
    if template.is_missing:
        raise BadArguments("generation.template: the model has no chat template: leave it out")
    problems = [
        f"generation.template: {problem}"
        for problem in template_variables.find_unused(variables, template.variables)
    ]
    if problems:
        raise BadArguments("\n".join(problems))
    try:
        template.render(_QUESTION, variables)
    except MlflowException as error:
        given = ", ".join(f"{name}={value}" for name, value in variables.items())
        raise BadArguments(f"generation.template: {given}: {error.message}") from error


def is_missing(folder: Path) -> bool:
    """Return whether a checked checkpoint has no chat template, so that it takes prompts only."""
    return ChatTemplate(folder).is_missing


def default_template(tokenizer: Any) -> str:
    """Return the chat template of transformers' tokenizer as Jinja source; empty if it has none."""
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    return template or ""


def tool_template(tokenizer: Any) -> str:
    """Return the template that transformers' tokenizer renders tools with; empty if it has none."""
    templates = tokenizer.chat_template
    own = templates.get("tool_use") if isinstance(templates, dict) else None
    return own or default_template(tokenizer)


def check_file(file: Path, key: str) -> None:
    """Raise UserError unless a file holds a template that renders a question.

    key: the config key and its value, for messages.
    """
    with tempfile.TemporaryDirectory() as folder:
        _copy(file, Path(folder))
        check(Path(folder), key)
        try:
            rendered = ChatTemplate(Path(folder)).render(_QUESTION)
        except MlflowException as error:
            raise UserError(f"{key}: {error.message}: {_REQUIRED}") from error
    if _QUESTION[0]["content"] not in rendered:
        raise UserError(f"{key} leaves out the content of a user message: {_REQUIRED}")


def replace(folder: Path, file: Path) -> bool:
    """Give a checkpoint the template in a file in place of its own; return whether it had one."""
    own = [folder / CHAT_TEMPLATE, folder / TEMPLATES_FOLDER / "default.jinja"]
    had_one = any(each.exists() for each in own)
    for each in [*own, folder / PROCESSOR_TEMPLATE]:
        each.unlink(missing_ok=True)
    shutil.rmtree(folder / TEMPLATES_FOLDER, ignore_errors=True)
    if (settings := folder / TOKENIZER_CONFIG).is_file():
        values = read_json_object(settings, TOKENIZER_CONFIG)
        if values.pop("chat_template", None):
            had_one = True
            write_json(settings, values)
    _copy(file, folder)
    return had_one


def _copy(file: Path, folder: Path) -> None:
    try:
        (folder / CHAT_TEMPLATE).write_bytes(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be copied: {error.strerror}: check the file") from error
