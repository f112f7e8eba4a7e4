"""Generation defaults of a logged model, and its interface: `generation.*`, `log_genai.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from slmflow.config.schema.fields import Kind, config_key
from slmflow.runtime.prompts import template_variables


class Interface(Enum):
    """Signature of the GenAI model: `llm/v1/chat`, or `prompt: string -> string`."""

    chat = "chat"
    prompt = "prompt"


@dataclass
class Generation:
    """Generation options of a logged model, for requests that do not set them."""

    max_new_tokens: int = config_key(Kind.value, "most tokens of an answer")
    temperature: float = config_key(Kind.value, "sampling temperature; 0 is greedy")
    top_p: float = config_key(Kind.value, "probability mass that nucleus sampling keeps")
    template: dict[str, Any] = config_key(
        Kind.value, "variable of the model's chat template, such as enable_thinking", dict
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.max_new_tokens < 1:
            yield f"generation.max_new_tokens={self.max_new_tokens}: must be at least 1"
        if not 0 <= self.temperature <= 2:
            yield f"generation.temperature={self.temperature}: must be between 0 and 2"
        if not 0 < self.top_p <= 1:
            yield f"generation.top_p={self.top_p}: must be above 0 and at most 1"
        for problem in template_variables.find_problems(self.template):
            yield f"generation.template: {problem}"


@dataclass
class LogGenai:
    """How the GenAI model is logged."""

    interface: Interface = config_key(
        Kind.value,
        "signature: chat, or prompt for `prompt: string -> string`, which a base model always has",
        Interface.chat,
    )
