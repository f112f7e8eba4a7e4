"""Which token ids the likelihood of an answer is computed from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer

from .chat_model import reject_empty
from .errors import reject
from .generation.engine import PromptEncoder
from .prompts.message_encoder import Message, encode_continuation, validate_messages
from .prompts.vocabulary import reject_unknown_tokens


def encode_answer(
    prompts: PromptEncoder,
    messages: Sequence[Message],
    answer: str,
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[list[int], list[int]]:
    """Return the token ids of a prompt and of the answer that follows it.

    The answer is encoded by itself, and no end token is added. With transformers:
    `apply_chat_template(messages, add_generation_prompt=True)`, then
    `encode(answer, add_special_tokens=False)`. A prompt that opens a reasoning block gets its end
    first. A model without a chat template scores the answer as the continuation of a single
    message's content (`encode_continuation`). variables: those of the chat template. Raises
    MlflowException (HTTP 400) for invalid messages.
    """
    messages = validate_messages(messages)
    if not prompts.takes_messages and len(messages) == 1:
        return encode_continuation(prompts.tokenizer, messages[0]["content"], answer)
    prompt = prompts.encode_chat(messages, variables)
    prompt = prompt + prompts.encode_text(prompts.reasoning.format(prompt).closing)
    return prompt, prompts.encode_text(answer)


def reject_unscorable(
    context: Sequence[int],
    continuation: Sequence[int],
    context_length: int,
    vocabulary_size: int,
    tokenizer: Tokenizer,
) -> None:
    """Raise MlflowException (HTTP 400) for token ids that a model cannot score.

    These are an empty context, more tokens than the model's context holds, and unknown tokens.
    """
    reject_empty(context)
    if len(context) + len(continuation) > context_length:
        reject(
            f"prompt and answer have {len(context)} and {len(continuation)} tokens, and the "
            f"model's context holds {context_length}"
        )
    reject_unknown_tokens([*context, *continuation], vocabulary_size, tokenizer)
