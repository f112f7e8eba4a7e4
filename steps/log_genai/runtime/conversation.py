"""Messages to token ids: checked, written by the model's chat template, tokenized.

The template is Jinja, and the tokenizer the `tokenizers` library's; both are what transformers
itself uses, so the ids are those of `apply_chat_template(messages, add_generation_prompt=True)`.
ONNX Runtime GenAI's own renders fewer templates and splits some texts otherwise.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from .refusal import refuse

Message = Mapping[str, str]

# A chat template drops what it does not know without a word.
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = ("role", "content", "name")

# What a template may write by name, beside messages.
_SPECIAL_TOKENS = tuple(f"{n}_token" for n in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def checked(messages: Any) -> list[Message]:
    """Return the messages of a request, each with what the chat template gets to see.

    Raises MlflowException (400 when served) that names what is wrong with them.
    """
    if not isinstance(messages, list) or not messages:
        refuse(f"messages={messages!r}: give a list of at least one message")
    return [_message(message) for message in messages]


class ChatTemplate:
    """The chat template of a model's folder."""

    def __init__(self, folder: Path) -> None:
        """Read it, from `chat_template.jinja` or the older place in `tokenizer_config.json`."""
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        file = folder / "chat_template.jinja"
        source = (
            file.read_text("utf-8") if file.is_file() else _default(config.get("chat_template"))
        )
        self._template = _environment().from_string(source) if source else None
        self._special = {
            name: _text(config[name]) for name in _SPECIAL_TOKENS if config.get(name) is not None
        }

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text of a conversation, up to where the answer begins.

        Raises MlflowException where the model has no template, or it does not take the messages.
        """
        if self._template is None:
            refuse("this model has no chat template, so it takes no messages: send a plain prompt")
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._special,
            )
        except Exception as error:
            refuse(f"the model's chat template does not take these messages: {error}")


class TemplatePrompts:
    """`Prompts` of a model's folder: its chat template and its tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Read both from the folder that `tokenizer.json` lies in."""
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._template = ChatTemplate(folder)

    def of_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a conversation; only the template adds special tokens."""
        return self.of_text(self._template.render(messages))

    def of_document(self, text: str) -> list[int]:
        """Return the token ids of a text that is all there is, with the tokenizer's own BOS."""
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def of_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens of the tokenizer's own."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        refuse(f"message {message!r}: give an object with role and content")
    given = {name: value for name, value in message.items() if value is not None}
    for name in ("role", "content"):
        if not isinstance(given.get(name), str):
            refuse(f"{name}={given.get(name)!r} in a message: give text")
    if given["role"] not in _ROLES:
        refuse(f"role={given['role']!r} in a message: give one of {', '.join(_ROLES)}")
    if unknown := sorted(given.keys() - set(_MESSAGE_FIELDS)):
        refuse(f"{unknown[0]} in a message is not supported: give {', '.join(_MESSAGE_FIELDS)}")
    return given


def _default(templates: Any) -> str | None:
    """Return the template to use where a config has several, as a list of names and templates."""
    if isinstance(templates, list):
        named = {each["name"]: each["template"] for each in templates}
        return named.get("default")
    return templates if isinstance(templates, str) else None


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


class _Generation(Extension):
    """`{% generation %}` marks what an assistant said, for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own convention)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        return Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )


def _environment() -> ImmutableSandboxedEnvironment:
    """Return an environment with what transformers offers to templates, and as it sets it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON; Jinja's own filter would escape HTML characters."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise TemplateError(message)
