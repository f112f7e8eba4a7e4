"""What a chat model is made of: what generates, and what writes its prompts."""

from collections.abc import Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from ..prompts.conversation import Message
from .answer import Job


class Prompts(Protocol):
    """What writes the prompts of a model; `tokenizer` reads its answers."""

    tokenizer: Tokenizer

    def of_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a conversation; only the template adds special tokens."""

    def of_document(self, text: str) -> list[int]:
        """Return the token ids of a text that is all there is, with the tokenizer's own BOS."""


class Batch(Protocol):
    """Answers that are generated together."""

    rows: list[Job]

    def step(self) -> None:
        """Have each job that is not finished say its next token, once it is where it was.

        A job that has said some before begins anew: those are gone through again, a step each.
        """


class Engine(Protocol):
    """A loaded model.

    context_length: the most tokens that a prompt and its answer have together; ends: the ids of
    its end tokens; defaults: options where nobody says otherwise; guides: whether answers can be
    held to a JSON schema.
    """

    context_length: int
    ends: frozenset[int]
    defaults: dict[str, Any]
    guides: bool

    def fit(self, jobs: Sequence[Job]) -> bool:
        """Return whether these may be one batch."""

    def read(self, jobs: Sequence[Job]) -> Batch:
        """Return a batch that has read the prompts."""
