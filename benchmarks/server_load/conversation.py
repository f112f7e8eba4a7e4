"""A long conversation: time to the first text of each turn."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.server_load.server import RunningServer

_NEW_TOKENS = 32
TURNS = 3

_NOUNS = "river market teacher garden letter mountain doctor village window station bridge island"
_VERBS = "crosses repairs describes remembers visits paints measures leaves"
_PLACES = "near the harbor, behind the school, in winter, before breakfast, at the old mill"


@dataclass(frozen=True)
class Turn:
    """One turn: tokens of its prompt, and seconds until its first text and until its end."""

    prompt_tokens: int
    first_s: float
    seconds: float


def measure(server: RunningServer, model: str, words: int, number: int) -> tuple[Turn, ...]:
    """Tell a story of so many words, and ask about it in `TURNS` turns.

    Each number gives another story, so that nothing of an earlier conversation can be reused.
    """
    messages: list[Any] = []
    turns = []
    for question in (
        f"{story(words, number)}\n\nWhat is this story about?",
        "Who is in it?",
        "How does it end?",
    ):
        messages.append({"role": "user", "content": question})
        turn, answer = _ask(server, model, messages)
        turns.append(turn)
        messages.append({"role": "assistant", "content": answer})
    return tuple(turns)


def story(words: int, number: int) -> str:
    """Return a text of about so many words, made of sentences. Each number gives another one."""
    rng = random.Random(f"story {number}")  # noqa: S311 (repeatable, not secret)
    nouns, verbs, places = _NOUNS.split(), _VERBS.split(), _PLACES.split(", ")
    sentences: list[str] = []
    length = 0
    while length < words:
        first, second = rng.sample(nouns, 2)
        sentence = f"The {first} {rng.choice(verbs)} the {second} {rng.choice(places)}."
        sentences.append(sentence)
        length += len(sentence.split())
    return " ".join(sentences)


def _ask(server: RunningServer, model: str, messages: Sequence[Any]) -> tuple[Turn, str]:
    start = time.perf_counter()
    first_s: float | None = None
    pieces: list[str] = []
    prompt_tokens = 0
    chunks = server.client.chat.completions.create(
        model=model,
        messages=list(messages),
        max_tokens=_NEW_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            first_s = first_s or time.perf_counter() - start
            pieces.append(piece)
        if chunk.usage:
            prompt_tokens = chunk.usage.prompt_tokens
    seconds = time.perf_counter() - start
    return Turn(prompt_tokens, first_s or seconds, seconds), "".join(pieces)
