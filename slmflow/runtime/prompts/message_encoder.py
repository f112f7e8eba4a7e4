"""Turn messages into token ids: validate them, apply the chat template, tokenize.

The template is Jinja, and the tokenizer comes from the `tokenizers` library. transformers uses the
same two, so the ids equal `apply_chat_template(messages, add_generation_prompt=True)`. ONNX Runtime
GenAI's own template engine supports fewer templates, and its tokenizer splits some texts otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer

from ..errors import reject
from ..generation.reasoning import ReasoningReader
from .template import ChatTemplate

Message = Mapping[str, str]

# Anything else is rejected: a chat template silently ignores what it does not know.
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = ("role", "content", "name", "reasoning_content")


def validate_messages(messages: Any) -> list[Message]:
    """Return the messages of a request, without null fields.

    Raises MlflowException (HTTP 400) that names the first invalid value.
    """
    if not isinstance(messages, list) or not messages:
        reject(f"messages={messages!r}: give a list of at least one message")
    return [_validate_message(message) for message in messages]


def encode_document(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of a text, with the tokenizer's special tokens around it.

    A text that begins with these, as a rendered chat template does, does not get them twice.
    """
    ids: list[int] = tokenizer.encode(text).ids
    bare: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    shift = range(len(ids) - len(bare) + 1)
    added = next((n for n in shift if ids[n : n + len(bare)] == bare), 0)
    return ids[added:] if added and bare[:added] == ids[:added] else ids


def encode_continuation(
    tokenizer: Tokenizer, prompt: str, answer: str
) -> tuple[list[int], list[int]]:
    """Return the token ids of a prompt, and of an answer that continues it after a space.

    Both are encoded as one text, as lm-evaluation-harness does, because a word and the space before
    it are one token. A token that begins in the prompt and ends in the answer is the answer's.
    """
    space = " " if answer and not prompt[-1:].isspace() else ""
    prompt_ids = encode_document(tokenizer, prompt)
    ids = encode_document(tokenizer, prompt + space + answer)
    pairs = enumerate(zip(prompt_ids, ids, strict=False))
    shared = next((index for index, (one, other) in pairs if one != other), len(prompt_ids))
    return ids[:shared], ids[shared:]


class TemplatePromptEncoder:
    """The `PromptEncoder` of a model folder: its chat template and its tokenizer."""

    def __init__(self, folder: Path) -> None:
        """Read both from the folder with `tokenizer.json`."""
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._template = ChatTemplate(folder)
        self.takes_messages = not self._template.is_missing
        self.template_variables = self._template.variables
        self.reasoning = ReasoningReader(self._template.source, self.tokenizer)

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[int]:
        """Return the token ids of a conversation. Only its template adds special tokens."""
        return self.encode_text(self._template.render(messages, variables))

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""
        return encode_document(self.tokenizer, text)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _validate_message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        reject(f"message {message!r}: give an object with role and content")
    fields = {name: value for name, value in message.items() if value is not None}
    for name in ("role", "content"):
        if not isinstance(fields.get(name), str):
            reject(f"{name}={fields.get(name)!r} in a message: give text")
    if fields["role"] not in _ROLES:
        reject(f"role={fields['role']!r} in a message: use one of {', '.join(_ROLES)}")
    if unknown := sorted(fields.keys() - set(_MESSAGE_FIELDS)):
        reject(f"{unknown[0]} in a message is not supported: use {', '.join(_MESSAGE_FIELDS)}")
    if "reasoning_content" in fields:
        _check_reasoning(fields)
    return fields


def _check_reasoning(fields: Mapping[str, Any]) -> None:
    if fields["role"] != "assistant":
        reject(f"reasoning_content in a message of role {fields['role']}: only assistant has it")
    if not isinstance(fields["reasoning_content"], str):
        reject(f"reasoning_content={fields['reasoning_content']!r} in a message: give text")
