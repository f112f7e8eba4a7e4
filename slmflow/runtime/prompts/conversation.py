"""Messages to token ids: checked, written by the model's chat template, tokenized.

The template is Jinja, and the tokenizer the `tokenizers` library's; both are what transformers
itself uses, so the ids are those of `apply_chat_template(messages, add_generation_prompt=True)`.
ONNX Runtime GenAI's own renders fewer templates and splits some texts otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..errors import refuse
from .template import ChatTemplate

Message = Mapping[str, str]

# A chat template drops what it does not know without a word.
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = ("role", "content", "name")


def checked(messages: Any) -> list[Message]:
    """Return the messages of a request, each with what the chat template gets to see.

    Raises MlflowException (400 when served) that names what is wrong with them.
    """
    if not isinstance(messages, list) or not messages:
        refuse(f"messages={messages!r}: give a list of at least one message")
    return [_message(message) for message in messages]


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
