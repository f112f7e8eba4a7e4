"""The formats in which models write tool calls: JSON, between texts that differ by model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tokenizers import Tokenizer

Call = tuple[str, str]
"""The name of a called tool, and its arguments as JSON."""


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes tool calls.

    start, end: the texts before and after a call, or before and after a list of all calls
    (is_list); end may be empty, where the completion ends instead. is_bare: whether the model may
    leave out the start, and does in its own template. padding: white space within start and end.
    between: the text between two calls. arguments: the key of a call's arguments. id_length: how
    many letters and digits an id has, None for OpenAI's form. special: the special tokens that are
    start or end, with their texts; they have no text in a completion. is_enforceable: whether the
    runtime's guidance can hold a completion to this format.
    """

    start: str
    end: str = ""
    is_list: bool = False
    is_bare: bool = False
    padding: str = ""
    between: str = ", "
    arguments: str = "arguments"
    id_length: int | None = None
    special: Mapping[int, str] = field(default_factory=dict)
    is_enforceable: bool = True

    def write(self, calls: Sequence[Call]) -> str:
        """Return calls as the model writes them."""
        objects = [self.head(name) + arguments + "}" for name, arguments in calls]
        if self.is_list:
            return f"{self.start}[{self.between.join(objects)}]{self.end}"
        start = "" if self.is_bare else self.start + self.padding
        return self.between.join(start + each + self.padding + self.end for each in objects)

    def head(self, name: str) -> str:
        """Return the text of a call before its arguments."""
        return f'{{"name": {json.dumps(name)}, "{self.arguments}": '


# Hermes, Qwen 2.5 and 3, SmolLM3, Granite 4
HERMES = ToolFormat("<tool_call>", "</tool_call>", padding="\n", between="\n")
OPEN_LIST = ToolFormat("<|tool_call|>", is_list=True)  # Granite 3
CLOSED_LIST = replace(OPEN_LIST, end="<|/tool_call|>")  # Phi-4-mini
MISTRAL = ToolFormat("[TOOL_CALLS]", is_list=True, id_length=9)
LLAMA = ToolFormat("<|python_tag|>", is_bare=True, between="; ", arguments="parameters")

# Of a SentencePiece vocabulary.
_SPACE = "▁"

# Calls that are no JSON: of Qwen 3 Coder and 3.5, GLM, and newer versions of Mistral.
_OTHER_FORMATS = ("<function=", "<arg_key>", "[ARGS]")


def recognize(source: str, tokenizer: Tokenizer) -> ToolFormat | None:
    """Return the format of a model whose chat template renders tools; None if it is not known.

    source: the template, in Jinja.
    """
    if any(text in source for text in _OTHER_FORMATS):
        return None
    found = next(_candidates(source, tokenizer), None)
    return found and with_tokens(found, tokenizer)


def _candidates(source: str, tokenizer: Tokenizer) -> Iterator[ToolFormat]:
    def has(text: str) -> bool:
        return text in source or tokenizer.token_to_id(text) is not None

    if HERMES.start in source:
        yield HERMES
    if MISTRAL.start in source:
        yield MISTRAL
    if has(CLOSED_LIST.start):
        yield CLOSED_LIST if has(CLOSED_LIST.end) else OPEN_LIST
    if '"parameters": ' in source:
        yield LLAMA


def with_tokens(found: ToolFormat, tokenizer: Tokenizer) -> ToolFormat:
    """Return a format with the tokens that are its start and end in a vocabulary."""
    tags = {
        token_id: token
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.content in (found.start, found.end)
    }
    special = {token_id: token.content for token_id, token in tags.items() if token.special}
    ordinary = [token.content for token in tags.values() if not token.special]
    is_enforceable = not any(_adds_space_after(tag, tokenizer) for tag in ordinary)
    return replace(found, special=special, is_enforceable=is_enforceable)


def _adds_space_after(tag: str, tokenizer: Tokenizer) -> bool:
    """Return whether text after an ordinary token gets a space, as in SentencePiece vocabularies.

    The guidance tokenizes the text that must follow together with the tag, and rejects the space.
    """
    tokens = tokenizer.encode(tag + "{", add_special_tokens=False).tokens
    return tokens[0] == tag and tokens[1].startswith(_SPACE)
