"""The log-probability of an answer under the model."""

from collections.abc import Sequence

from .chat_model import reject_empty
from .errors import reject
from .generation.genai import GenaiEngine
from .prompts.message_encoder import Message, TemplatePromptEncoder, validate_messages


def score(
    engine: GenaiEngine,
    prompts: TemplatePromptEncoder,
    messages: Sequence[Message],
    answer: str,
) -> tuple[float, int]:
    """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

    The answer is encoded by itself and follows the tokens of the prompt; no end token is added.
    With transformers: `apply_chat_template(messages, add_generation_prompt=True)`, then
    `encode(answer, add_special_tokens=False)`. Raises MlflowException (HTTP 400) for messages that
    are invalid or too long.
    """
    prompt = prompts.encode_chat(validate_messages(messages))
    tokens = prompts.encode_text(answer)
    reject_empty(prompt)
    if len(prompt) + len(tokens) > engine.context_length:
        reject(
            f"prompt and answer have {len(prompt)} and {len(tokens)} tokens, and the model's "
            f"context holds {engine.context_length}"
        )
    if not tokens:
        return 0.0, 0
    return float(engine.log_probabilities([*prompt, *tokens], len(tokens)).sum()), len(tokens)
