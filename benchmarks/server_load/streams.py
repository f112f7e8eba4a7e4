"""Concurrent streams: total speed, and how evenly it is shared."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from benchmarks.harness.paired_rounds import alternate
from benchmarks.server_load.prompts import NEW_TOKENS
from benchmarks.server_load.server import RunningServer


@dataclass(frozen=True)
class Stream:
    """One stream as its client sees it: seconds from the request to the first text and the end."""

    first_s: float
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Round:
    """Streams requested at once, and the seconds until the last one ends."""

    streams: tuple[Stream, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all streams together."""
        return sum(stream.tokens for stream in self.streams) / self.seconds

    @property
    def slowest_to_mean(self) -> float:
        """Seconds of the slowest stream, divided by their mean."""
        seconds = [stream.seconds for stream in self.streams]
        return max(seconds) / fmean(seconds)


@dataclass(frozen=True)
class Streams:
    """Rounds of a single stream, and of many at once."""

    alone: tuple[Round, ...]
    together: tuple[Round, ...]

    @property
    def alone_speeds(self) -> tuple[float, ...]:
        """Tokens per second of a single stream, one value per round."""
        return tuple(each.tokens_per_s for each in self.alone)

    @property
    def together_speeds(self) -> tuple[float, ...]:
        """Tokens per second of all streams, one value per round."""
        return tuple(each.tokens_per_s for each in self.together)


def measure(server: RunningServer, kind: str, texts: Sequence[str], rounds: int) -> Streams:
    """Stream the completion of one text, and of all texts at once, in alternating order."""
    model = server.model
    alone, together = alternate(
        f"{len(texts)} streams, {kind}",
        lambda number: run_round(server, model, [texts[number % len(texts)]]),
        lambda _: run_round(server, model, texts),
        rounds,
    )
    return Streams(alone, together)


def run_round(server: RunningServer, model: str, texts: Sequence[str]) -> Round:
    """Stream the completions of all texts at once."""
    start = time.perf_counter()
    with ThreadPoolExecutor(len(texts)) as clients:
        streams = tuple(clients.map(lambda text: _stream(server, model, text), texts))
    return Round(streams, time.perf_counter() - start)


def _stream(server: RunningServer, model: str, text: str) -> Stream:
    start = time.perf_counter()
    first_s: float | None = None
    tokens = 0
    chunks = server.client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": text}],
        max_tokens=NEW_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if first_s is None and chunk.choices and chunk.choices[0].delta.content:
            first_s = time.perf_counter() - start
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    seconds = time.perf_counter() - start
    return Stream(seconds if first_s is None else first_s, seconds, tokens)
