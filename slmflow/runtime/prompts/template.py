"""Render a model's chat template: untrusted Jinja, in a sandbox with limits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Template, TemplateError, meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Assign, AssignBlock, For, Name, Node, Scope
from jinja2.parser import Parser

from ..errors import reject
from .sandbox import BoundedEnvironment

# The templates in files of their own, by name; the later of two of one name counts.
_FILES = {
    "chat_template.jinja": "default",
    "additional_chat_templates/default.jinja": "default",
    "additional_chat_templates/tool_use.jinja": "tool_use",
}

NO_TEMPLATE = (
    "this model has no chat template, so it accepts no messages: send a prompt, at "
    "/v1/completions, or log the model again with model.template=FILE, which gives it one"
)
"""Why a base model rejects messages."""


class ChatTemplate:
    """The chat template of a model folder."""

    def __init__(self, folder: Path) -> None:
        """Read it from a file, or from `tokenizer_config.json` as older models do.

        Some models have a template of their own for prompts with tools. Raises MlflowException for
        an invalid template.
        """
        settings = folder / "tokenizer_config.json"
        config = json.loads(settings.read_text("utf-8")) if settings.is_file() else {}
        named = _read_files(folder) or _named_templates(config.get("chat_template"))
        self.source = named.get("default") or None
        self.tool_source = named.get("tool_use") or self.source
        self._template = _compile(self.source) if self.source else None
        self._tool_template = _compile(self.tool_source) if self.tool_source else None
        self._special = _special_tokens(config)

    @property
    def is_missing(self) -> bool:
        """Whether the model has no chat template, as a base model has none."""
        return self._template is None

    @property
    def variables(self) -> frozenset[str]:
        """The names of all variables that the template uses."""
        sources = (self.source or "", self.tool_source or "")
        return frozenset().union(*(template_variables(source) for source in sources))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any] = MappingProxyType({}),
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the text of a conversation, by default up to where the answer begins.

        variables: further ones of the template, such as `tools` or `enable_thinking`. Raises
        MlflowException if the model has no template, or its template rejects the messages.
        """
        template = self._tool_template if "tools" in variables else self._template
        if template is None or self._template is None:
            reject(NO_TEMPLATE, param="messages")
        try:
            with _ENVIRONMENT.limits():
                return template.render(
                    {
                        **self._special,
                        "tools": None,
                        **variables,
                        "messages": messages,
                        "documents": None,
                        "add_generation_prompt": add_generation_prompt,
                    }
                )
        except Exception as error:
            reject(f"the model's chat template rejects these messages: {error}", param="messages")


def template_variables(source: str) -> frozenset[str]:
    """Return the names that a valid template reads and that neither it nor Jinja defines.

    Jinja also counts names that are set in branches. Those first appear where they are set; a
    default, as in `{% if x is not defined %}{% set x = 1 %}{% endif %}`, comes after a read.
    """
    parsed = _ENVIRONMENT.parse(source)
    first_use: dict[str, str] = {}
    for name in _names(parsed):
        first_use.setdefault(name.name, name.ctx)
    undeclared = meta.find_undeclared_variables(parsed)
    return frozenset(name for name in undeclared if first_use.get(name) == "load")


def _names(node: Node) -> Iterator[Name]:
    """Yield the names below a node in the order in which they are read and set."""
    if isinstance(node, Name):
        yield node
    children = list(node.iter_child_nodes())
    if isinstance(node, Assign | AssignBlock):  # whose value comes before the target
        children.sort(key=lambda child: child is node.target)
    elif isinstance(node, For):
        children.sort(key=lambda child: child is not node.iter)
    for child in children:
        yield from _names(child)


def check_source(source: str) -> None:
    """Raise MlflowException for an invalid template."""
    _compile(source)


def _compile(source: str) -> Template:
    try:
        return _ENVIRONMENT.from_string(source)
    except (TemplateError, RecursionError) as error:
        reject(f"the model's chat template is invalid: {error}")


def _read_files(folder: Path) -> dict[str, str]:
    """Return the templates in files of their own, by name. They hide those of the config."""
    files = {folder / name: key for name, key in _FILES.items() if (folder / name).is_file()}
    return {key: file.read_text("utf-8") for file, key in files.items()}


def _named_templates(templates: Any) -> dict[str, str]:
    """Return the templates of a config by name. It may list several, or have a single one."""
    if isinstance(templates, list):
        pairs = (each for each in templates if isinstance(each, Mapping))
        named = {each.get("name"): each.get("template") for each in pairs}
    else:
        named = {"default": templates}
    return {
        name: text
        for name, text in named.items()
        if isinstance(name, str) and isinstance(text, str)
    }


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that a template may use as variables.

    Models may add to the usual ones, as transformers 4 did in `extra_special_tokens`.
    """
    extra = config.get("extra_special_tokens")
    tokens = {
        **{name: token for name, token in config.items() if name.endswith("_token")},
        **(extra if isinstance(extra, Mapping) else {}),
    }
    texts = {name: _token_text(token) for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _token_text(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None


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
