"""The log-probability of an answer under the model."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .chat_model import reject_empty
from .errors import reject
from .generation.genai import GenaiEngine
from .prompts.message_encoder import (
    Message,
    TemplatePromptEncoder,
    encode_continuation,
    validate_messages,
)
from .prompts.vocabulary import reject_unknown_tokens


def score(
    engine: GenaiEngine,
    prompts: TemplatePromptEncoder,
    messages: Sequence[Message],
    answer: str,
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[float, int]:
    """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

    The answer is encoded by itself and follows the tokens of the prompt; no end token is added.
    With transformers: `apply_chat_template(messages, add_generation_prompt=True)`, then
    `encode(answer, add_special_tokens=False)`. A prompt that opens a reasoning block gets its end
    first. A model without a chat template scores the answer as the continuation of a single
    message's content (`encode_continuation`). variables: those of the chat template. Raises
    MlflowException (HTTP 400) for messages that are invalid or too long.
    """
    messages = validate_messages(messages)
    if prompts.takes_messages or len(messages) > 1:
        prompt = prompts.encode_chat(messages, variables)
        prompt += prompts.encode_text(prompts.reasoning.format(prompt).closing)
        tokens = prompts.encode_text(answer)
    else:
        content = messages[0]["content"]
        prompt, tokens = encode_continuation(prompts.tokenizer, content, answer)
    reject_empty(prompt)
    if len(prompt) + len(tokens) > engine.context_length:
        reject(
            f"prompt and answer have {len(prompt)} and {len(tokens)} tokens, and the model's "
            f"context holds {engine.context_length}"
        )
    reject_unknown_tokens([*prompt, *tokens], engine.vocabulary_size, prompts.tokenizer)
    if not tokens:
        return 0.0, 0
    return float(engine.log_probabilities([*prompt, *tokens], len(tokens)).sum()), len(tokens)
