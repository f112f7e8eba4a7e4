"""Render a model's chat template: untrusted Jinja, in a sandbox with limits."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Template, TemplateError, meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser

from ..errors import reject
from .sandbox import BoundedEnvironment
from .template_variables import SPECIAL_TOKENS

NO_TEMPLATE = (
    "this model has no chat template, so it accepts no messages: send a prompt, at "
    "/v1/completions, or log the model again with model.template=FILE, which gives it one"
)
"""Why a base model rejects messages."""


class ChatTemplate:
    """The chat template of a model folder."""

    def __init__(self, folder: Path) -> None:
        """Read it from `chat_template.jinja`, or from `tokenizer_config.json` as older models do.

        Raises MlflowException for an invalid template.
        """
        settings = folder / "tokenizer_config.json"
        config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
        file = folder / "chat_template.jinja"
        source = (
            file.read_text("utf-8")
            if file.is_file()
            else _default_template(config.get("chat_template"))
        )
        self.source = source or None
        self._template = _compile(source) if source else None
        self._special = {
            name: _token_text(config[name])
            for name in SPECIAL_TOKENS
            if config.get(name) is not None
        }

    @property
    def is_missing(self) -> bool:
        """Whether the model has no chat template, as a base model has none."""
        return self._template is None

    @property
    def variables(self) -> frozenset[str]:
        """The names of all variables that the template uses."""
        return template_variables(self.source or "")

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        variables: Mapping[str, Any] = MappingProxyType({}),
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of a conversation, by default up to where the answer begins.

        variables: further ones of the template, such as `enable_thinking`. Raises MlflowException
        if the model has no template, or its template rejects the messages.
        """
        if self._template is None:
            reject(NO_TEMPLATE)
        try:
            with _ENVIRONMENT.limits():
                return self._template.render(
                    messages=messages,
                    tools=None,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                    **self._special,
                    **variables,
                )
        except Exception as error:
            reject(f"the model's chat template rejects these messages: {error}")


def template_variables(source: str) -> frozenset[str]:
    """Return the names that a valid template reads and that neither it nor Jinja defines."""
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


def check_source(source: str) -> None:
    """Raise MlflowException for an invalid template."""
    _compile(source)


def _compile(source: str) -> Template:
    try:
        return _ENVIRONMENT.from_string(source)
    except (TemplateError, RecursionError) as error:
        reject(f"the model's chat template is invalid: {error}")


def _default_template(templates: Any) -> str | None:
    """Return the default template. A config may list several, by name."""
    if isinstance(templates, list):
        pairs = (each for each in templates if isinstance(each, Mapping))
        templates = {each.get("name"): each.get("template") for each in pairs}.get("default")
    return templates if isinstance(templates, str) else None


def _token_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


class _Generation(Extension):
    """`{% generation %}` marks assistant turns for training; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's convention)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return Scope(body, lineno=line)


def _environment() -> BoundedEnvironment:
    """Return an environment with the settings, filters and globals of transformers."""
    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format_: datetime.now().strftime(format_)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON. Jinja's own filter would escape HTML characters."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


_ENVIRONMENT = _environment()
