"""The interfaces a chat model is built from: an engine that generates, and a prompt encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from ..prompts.message_encoder import Message
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
    template_variables: frozenset[str]
    takes_messages: bool

    def encode_chat(
        self, messages: Sequence[Message], variables: Mapping[str, Any] = ...
    ) -> list[int]:
        """Return the token ids of a conversation, rendered with further template variables.

        Only the template adds special tokens.
        """

    def encode_document(self, text: str) -> list[int]:
        """Return the token ids of a plain text, with the tokenizer's BOS."""

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens added by the tokenizer."""


class Batch(Protocol):
    """Requests that are decoded together."""

    requests: list[ActiveRequest]

    def step(self) -> None:
        """Decode one token of each unfinished request.

        A request that joined with tokens already generated replays them first, one per step.
        """


class Engine(Protocol):
    """A loaded model.

    context_length: the most tokens of a prompt and its completion together; vocabulary_size: all
    token ids are below it; end_tokens: ids of the end tokens; settings: the checkpoint's own;
    defaults: options for requests that leave them out; supports_guidance: whether completions can
    be constrained to a form.
    """

    context_length: int
    vocabulary_size: int
    end_tokens: frozenset[int]
    settings: CheckpointSettings
    defaults: dict[str, Any]
    supports_guidance: bool

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether these requests fit into one batch."""

    def prefill(self, requests: Sequence[ActiveRequest]) -> Batch:
        """Read the prompts and return their batch."""
