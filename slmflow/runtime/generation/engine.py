"""The interfaces a chat model is built from: an engine that generates, and a prompt encoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from ..prompts.message_encoder import Message
from ..tools.declarations import Declaration
from ..tools.template_support import ToolTemplate
from .active_request import ActiveRequest
from .checkpoint_settings import CheckpointSettings
from .reasoning import ReasoningReader


class PromptEncoder(Protocol):
    """Encode prompts to token ids.

    tokenizer: decodes the completions; reasoning: finds the reasoning in them; template_variables:
    the names of the variables that the chat template uses; takes_messages: whether the model has a
    chat template, without which `encode_chat` rejects all messages.
    """

    tokenizer: Tokenizer
    reasoning: ReasoningReader
    tools: ToolTemplate
    template_variables: frozenset[str]
    takes_messages: bool

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] = ...,
        tools: Sequence[Declaration] = ...,
        *,
        add_generation_prompt: bool = ...,
    ) -> list[int]:
        """Return the token ids of a conversation, rendered with variables and declared tools.

        By default they end where the answer begins. Only the template adds special tokens.
        """

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""


class Batch(Protocol):
    """Requests that are decoded together."""

    requests: list[ActiveRequest]

    @property
    def is_full(self) -> bool:
        """Whether an unfinished request has no room for its next token: prefill it again."""

    def step(self) -> None:
        """Decode one token of each unfinished request.

        A request that joined with tokens already generated replays them first, one per step.
        """

    def close(self) -> None:
        """End the batch. What it has read may serve later requests."""


class Prefill(Protocol):
    """Requests whose prompts are being read."""

    requests: list[ActiveRequest]

    @property
    def unread(self) -> int:
        """The number of tokens still to be read, padding included."""

    def advance(self, tokens: int) -> Batch | None:
        """Read about so many tokens more. Return the batch once all are read.

        What cannot be read in parts is read as a whole.
        """

    def close(self) -> None:
        """End a prefill that has not become a batch. What it has read may serve later requests."""


class Engine(Protocol):
    """A loaded model.

    context_length: the most tokens of a prompt and its completion together; vocabulary_size: all
    token ids are below it; end_tokens: ids of the end tokens; settings: the checkpoint's own;
    defaults: options for requests that leave them out; supports_guidance: whether completions can
    be constrained to a form; adapters: names of those that requests may choose.
    """

    context_length: int
    vocabulary_size: int
    end_tokens: frozenset[int]
    settings: CheckpointSettings
    defaults: dict[str, Any]
    supports_guidance: bool
    adapters: tuple[str, ...]

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether these requests fit into one batch."""

    def count_unread(self, requests: Sequence[ActiveRequest]) -> int:
        """Return how many tokens a prefill of these requests reads, padding included."""

    def shared_length(self, request: ActiveRequest, other: ActiveRequest) -> int:
        """Return how many tokens a request need not read if it runs alone after another."""

    def start_prefill(self, requests: Sequence[ActiveRequest]) -> Prefill:
        """Begin to read the prompts of a batch."""


class WholePrefill:
    """A prefill that reads everything at once."""

    def __init__(self, requests: Sequence[ActiveRequest], read: Callable[[], Batch]) -> None:
        """Read with a function that returns the batch."""
        self.requests, self.unread = list(requests), padded_tokens(requests)
        self._read = read

    def advance(self, tokens: int) -> Batch:
        """Read all prompts and return their batch."""
        batch = self._read()
        self.unread = 0
        return batch

    def close(self) -> None:
        """Do nothing: nothing is read in part."""


def padded_tokens(requests: Sequence[ActiveRequest]) -> int:
    """Return the prefill tokens of a batch: each prompt is padded to the longest."""
    return len(requests) * max(each.read_length for each in requests)
