"""How likely the model finds a given answer."""

from collections.abc import Sequence

from .chat_model import refuse_empty
from .errors import refuse
from .generation.genai import Genai
from .prompts.conversation import Message, TemplatePrompts, checked


def score(
    engine: Genai, prompts: TemplatePrompts, messages: Sequence[Message], answer: str
) -> tuple[float, int]:
    """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

    The tokens are those of the answer encoded by itself, after those of the prompt; no end token
    follows. With transformers: `apply_chat_template(messages, add_generation_prompt=True)`, then
    `encode(answer, add_special_tokens=False)`. Raises MlflowException (400 when served) for
    messages that are wrong or too long.
    """
    prompt = prompts.of_chat(checked(messages))
    reference = prompts.of_text(answer)
    refuse_empty(prompt)
    if len(prompt) + len(reference) > engine.context_length:
        refuse(
            f"prompt and answer have {len(prompt)} and {len(reference)} tokens, and the model's "
            f"context holds {engine.context_length}"
        )
    if not reference:
        return 0.0, 0
    found = engine.log_probabilities([*prompt, *reference], len(reference))
    return float(found.sum()), len(reference)
