"""Turn messages into token ids: validate them, apply the chat template, tokenize.

The template is Jinja, and the tokenizer comes from the `tokenizers` library. transformers uses the
same two, so the ids equal `apply_chat_template(messages, add_generation_prompt=True)`. ONNX Runtime
GenAI's own template engine supports fewer templates, and its tokenizer splits some texts otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from tokenizers import Tokenizer

from ..errors import reject
from ..generation.reasoning import ReasoningReader
from ..tools.declarations import Declaration
from ..tools.messages import validate_calls
from ..tools.template_support import ToolTemplate
from .message_fields import drop_neutral_fields
from .template import ChatTemplate

Message = Mapping[str, Any]

# Anything else is rejected: a chat template silently ignores what it does not know.
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = (
    *("role", "content", "name"),
    *("reasoning_content", "tool_calls", "tool_call_id"),
)
_ROLE_OF_FIELD = {
    "reasoning_content": "assistant",
    "tool_calls": "assistant",
    "tool_call_id": "tool",
}


def validate_messages(messages: Any) -> list[Message]:
    """Return the messages of a request, without null fields.

    Raises MlflowException (HTTP 400) that names the first invalid value.
    """
    if not isinstance(messages, list) or not messages:
        _reject(f"messages={messages!r:.100}: give a list of at least one message")
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
        source = self._template.tool_source or ""
        self.tools = ToolTemplate(self._template.render, source, self.tokenizer)

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] = MappingProxyType({}),
        tools: Sequence[Declaration] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Return the token ids of a conversation, by default up to where the answer begins.

        Only its template adds special tokens.
        """
        messages, tool_variables = self.tools.arrange(messages, tools)
        text = self._template.render(
            messages,
            {**variables, **tool_variables},
            add_generation_prompt=add_generation_prompt,
        )
        return self.encode_text(text)

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""
        return encode_document(self.tokenizer, text)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _validate_message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        _reject(f"message {message!r:.100}: give an object with role and content")
    fields = drop_neutral_fields(message)
    if calls := fields.pop("tool_calls", None):
        fields["tool_calls"] = validate_calls(calls)
    if fields.get("role") == "assistant" and not calls:
        fields.setdefault("content", "")  # null is the text of an empty answer
    for name in ("role", "content"):
        is_missing = name not in fields and not (name == "content" and calls)
        if is_missing or not isinstance(fields.get(name, ""), str):
            _reject(f"{name}={fields.get(name)!r:.100} in a message: give text")
    if fields["role"] not in _ROLES:
        _reject(f"role={fields['role']!r} in a message: use one of {', '.join(_ROLES)}")
    if unknown := sorted(fields.keys() - set(_MESSAGE_FIELDS)):
        _reject(f"{unknown[0]} in a message is not supported: use {', '.join(_MESSAGE_FIELDS)}")
    for name, role in _ROLE_OF_FIELD.items():
        if name in fields:
            _check_field(name, role, fields)
    return fields


def _check_field(name: str, role: str, fields: Mapping[str, Any]) -> None:
    """Raise MlflowException for a field in a message of another role, or with another type."""
    if fields["role"] != role:
        _reject(f"{name} in a message of role {fields['role']}: only {role} has it")
    if name != "tool_calls" and not isinstance(fields[name], str):
        _reject(f"{name}={fields[name]!r:.100} in a message: give text")


def _reject(problem: str) -> NoReturn:
    reject(problem, param="messages")
