"""How answers are generated, and through which interface: `generation.*`, `log_genai.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Interface(Enum):
    """Signature of the GenAI model: `llm/v1/chat`, or `prompt: string -> string`."""

    chat = "chat"
    prompt = "prompt"


@dataclass
class Generation:
    """How an answer is generated where the request does not say; temperature 0 is greedy."""

    max_new_tokens: int = MISSING
    temperature: float = MISSING
    top_p: float = MISSING

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.max_new_tokens < 1:
            yield f"generation.max_new_tokens={self.max_new_tokens}: must be at least 1"
        if not 0 <= self.temperature <= 2:
            yield f"generation.temperature={self.temperature}: must be between 0 and 2"
        if not 0 < self.top_p <= 1:
            yield f"generation.top_p={self.top_p}: must be above 0 and at most 1"


@dataclass
class LogGenai:
    """How the GenAI model is logged."""

    interface: Interface = Interface.chat
