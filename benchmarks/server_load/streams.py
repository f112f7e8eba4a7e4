"""What streams of many clients share: speed, and how evenly."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from benchmarks.harness.paired_turns import alternate
from benchmarks.server_load.prompts import NEW_TOKENS
from benchmarks.server_load.server import Served


@dataclass(frozen=True)
class Stream:
    """One answer as its client saw it, in seconds since it asked: the first text, and the end."""

    first_s: float
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Round:
    """Streams that were asked for at once, and the seconds until the last had ended."""

    streams: tuple[Stream, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all streams together."""
        return sum(stream.tokens for stream in self.streams) / self.seconds

    @property
    def slowest_to_mean(self) -> float:
        """How much longer the slowest stream took than they did on average; 1 is as long."""
        seconds = [stream.seconds for stream in self.streams]
        return max(seconds) / fmean(seconds)


@dataclass(frozen=True)
class Streams:
    """The rounds of one stream alone, and those of many at once."""

    alone: tuple[Round, ...]
    together: tuple[Round, ...]


def measure(served: Served, kind: str, texts: Sequence[str], rounds: int) -> Streams:
    """Stream the answers to one of the texts, and to all of them at once, in turns."""
    model = served.model
    alone, together = alternate(
        f"{len(texts)} streams, {kind}",
        lambda number: _at_once(served, model, [texts[number % len(texts)]]),
        lambda _: _at_once(served, model, texts),
        rounds,
    )
    return Streams(alone, together)


def _at_once(served: Served, model: str, texts: Sequence[str]) -> Round:
    began = time.perf_counter()
    with ThreadPoolExecutor(len(texts)) as clients:
        streams = tuple(clients.map(lambda text: _stream(served, model, text), texts))
    return Round(streams, time.perf_counter() - began)


def _stream(served: Served, model: str, text: str) -> Stream:
    began = time.perf_counter()
    first_s: float | None = None
    tokens = 0
    chunks = served.client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        max_tokens=NEW_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if first_s is None and chunk.choices and chunk.choices[0].delta.content:
            first_s = time.perf_counter() - began
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    seconds = time.perf_counter() - began
    return Stream(seconds if first_s is None else first_s, seconds, tokens)
