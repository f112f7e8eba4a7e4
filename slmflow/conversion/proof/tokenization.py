"""Compare what is served with transformers: token ids of texts, and prompts of conversations.

Both flavors get the same tokenizer.json and chat template, but the GenAI flavor reads them with
`tokenizers` and its own Jinja sandbox, without transformers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from slmflow.checkpoints import sample_texts
from slmflow.conversion.proof import probes
from slmflow.errors import UserError
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder

Conversation = tuple[dict[str, str], ...]

# Some tokenizers have thousands of added tokens, all of one kind.
_MAX_TOKENS_IN_TEXTS = 32


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


_SYSTEM = _turn("system", "You are brief, and <b>never</b> rude & loud.")
_QUESTION = _turn("user", " What is the capital of France?\n")
_ANSWER = _turn("assistant", "Paris. ")
_NEXT = _turn("user", "And of Cafe\u0301land\u00a0? \u6771\u4eac \U0001f642")
CONVERSATIONS: tuple[Conversation, ...] = (
    (_QUESTION,),
    (_SYSTEM, _QUESTION),
    (_QUESTION, _ANSWER, _NEXT),
    (_SYSTEM, _QUESTION, _ANSWER, _NEXT),
    (_QUESTION, _ANSWER),
)


@dataclass(frozen=True)
class TokenizationProbe:
    """A text or a conversation, and its token ids by transformers.

    ids: None for a conversation that the chat template rejects; document_ids: those of a text that
    is a prompt, with the special tokens of the tokenizer, such as one BOS.
    """

    content: str | Conversation
    ids: list[int] | None
    document_ids: list[int] | None = None


def build_probes(tokenizer: Any) -> list[TokenizationProbe]:
    """Tokenize texts and conversations with transformers' tokenizer of a checkpoint.

    A template may reject a system turn, or know only some roles.
    """
    plain = dict.fromkeys([*probes.TEXTS, *sample_texts.TEXTS, *_special_token_texts(tokenizer)])
    texts = [
        TokenizationProbe(
            text, tokenizer(text, add_special_tokens=False).input_ids, tokenizer(text).input_ids
        )
        for text in plain
    ]
    return texts + [
        TokenizationProbe(turns, _encode(partial(_apply_template, tokenizer), turns))
        for turns in CONVERSATIONS
    ]


def find_mismatches(
    tokenization_probes: list[TokenizationProbe], folder: Path
) -> list[TokenizationProbe]:
    """Return the probes that the tokenizer and template in a folder encode otherwise."""
    served = TemplatePromptEncoder(folder)
    return [
        each
        for each in tokenization_probes
        if _encode_served(served, each) != (each.ids, each.document_ids)
    ]


def check(tokenization_probes: list[TokenizationProbe], folder: Path) -> int:
    """Return the number of mismatches, which is 0. Raises UserError that shows one otherwise."""
    if mismatches := find_mismatches(tokenization_probes, folder):
        raise UserError(
            f"slmflow encodes {len(mismatches)} of {len(tokenization_probes)} probes otherwise "
            f"than transformers, such as {mismatches[0].content!r:.300}, so the converted model "
            "would answer differently. Choose a model with another tokenizer or chat template"
        )
    return len(mismatches)


def _special_token_texts(tokenizer: Any) -> Iterator[str]:
    """Yield texts that contain special and other added tokens literally."""
    tokens = dict.fromkeys([*tokenizer.all_special_tokens, *tokenizer.added_tokens_encoder])
    for token in islice(tokens, _MAX_TOKENS_IN_TEXTS):
        yield f"before {token} after{token}\n{token}"


def _apply_template(tokenizer: Any, turns: Conversation) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        list(turns), add_generation_prompt=True, return_dict=False
    )
    return ids


def _encode_served(
    served: TemplatePromptEncoder, probe: TokenizationProbe
) -> tuple[list[int] | None, list[int] | None]:
    """Return the `ids` and `document_ids` of a probe as they are served."""
    content = probe.content
    if isinstance(content, str):
        return served.encode_text(content), served.encode_document(content)
    return _encode(served.encode_chat, content), None


def _encode(
    encode_chat: Callable[[Conversation], list[int]], turns: Conversation
) -> list[int] | None:
    """Return token ids, or None if the chat template rejects the conversation."""
    try:
        return encode_chat(turns)
    except Exception:  # a template may raise anything
        return None
