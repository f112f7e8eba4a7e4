"""Show a serving measurement: a table with goals for screen and Markdown, raw values as JSON."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from statistics import median
from typing import ClassVar

from benchmarks.harness.series import median_of_ratios, ratio_of_medians
from benchmarks.server_load.batch_gain import Batch
from benchmarks.server_load.mixed_load import Load
from benchmarks.server_load.overhead import Overhead
from benchmarks.server_load.requests import Kind
from benchmarks.server_load.streams import Round, Streams
from slmflow.reports import markdown
from slmflow.system import machine
from slmflow.system.git_state import git_state

PACKAGES = ("mlflow", "onnxruntime", "onnxruntime-genai", "openai")


@dataclass(frozen=True)
class Goal:
    """The least or the most that a figure should be."""

    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Return whether a figure is as it should be."""
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Line:
    """A line of the table; `form` is how its value and goal are written."""

    name: str
    value: float
    form: str = "{:,.2f}"
    goal: Goal | None = None

    def cells(self) -> list[str]:
        """Return name, value and goal as they are shown."""
        return [self.name, self.form.format(self.value), self._goal()]

    def _goal(self) -> str:
        if self.goal is None:
            return ""
        limit, word = (
            (self.goal.most, "at most")
            if self.goal.least is None
            else (self.goal.least, "at least")
        )
        missed = "" if self.goal.met(self.value) else ", missed"
        return f"{word} {self.form.format(limit)}{missed}"


@dataclass(frozen=True)
class Report:
    """One measurement; batches and streams by the kind of what is asked."""

    HEADER: ClassVar = ("figure", "value", "goal")

    shape: str
    target: str
    overhead: Overhead
    batches: Mapping[str, Batch]
    streams: Mapping[str, Streams]
    load: Load

    @property
    def title(self) -> str:
        """What was measured."""
        return f"Serving {self.shape} at {self.target}"

    def lines(self) -> Iterator[Line]:
        """Yield the figures."""
        yield from _overhead_lines(self.overhead)
        for kind, batch in self.batches.items():
            yield from _batch_lines(kind, batch)
        for kind, streams in self.streams.items():
            yield from _stream_lines(kind, streams)
        yield from _load_lines(self.load)

    def rows(self) -> list[list[str]]:
        """Return the lines of the table."""
        return [line.cells() for line in self.lines()]

    def markdown(self) -> str:
        """Return the table with what it was measured on and how."""
        table = markdown.table(self.HEADER, self.rows())
        return f"# {self.title}\n\n{table}\n\n" + "\n".join(f"- {note}" for note in self._notes())

    def json(self) -> str:
        """Return every raw value, and the figures made of them."""
        fields = {
            "shape": self.shape,
            "target": self.target,
            "machine": machine.description(),
            "versions": _versions(),
            "git": git_state(),
            "figures": {line.name: line.value for line in self.lines()},
            "medians of ratios": {
                "predict to the bare runtime": median_of_ratios(
                    self.overhead.predict_s, self.overhead.bare_s
                ),
                **{
                    f"{kind}, rows together to one at a time": median_of_ratios(
                        batch.together_speeds, batch.alone_speeds
                    )
                    for kind, batch in self.batches.items()
                },
                **{
                    f"{kind}, streams together to alone": median_of_ratios(
                        _speeds(streams.together), _speeds(streams.alone)
                    )
                    for kind, streams in self.streams.items()
                },
            },
            "overhead": dataclasses.asdict(self.overhead),
            "batches": {k: dataclasses.asdict(batch) for k, batch in self.batches.items()},
            "streams": {k: dataclasses.asdict(streams) for k, streams in self.streams.items()},
            "load": dataclasses.asdict(self.load),
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        overhead, load = self.overhead, self.load
        versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
        yield f"{datetime.now(UTC):%Y-%m-%d}, {machine.description()}, {versions}"
        rounds = len(next(iter(self.batches.values())).together_s)
        yield f"medians of {rounds} alternating rounds, and ratios of medians; random weights"
        yield (
            f"overhead: {len(overhead.predict_s)} turns of `predict` of the loaded MLflow model "
            "and of a loop over the same loaded ONNX Runtime GenAI model; a prompt of "
            f"{_span(overhead.prompt_tokens)} tokens is tokenized and {overhead.new_tokens} more "
            "are generated and decoded; texts differ where single bytes make no character, which "
            "are written in pieces as they come, and otherwise all at once"
        )
        yield (
            f"batch: prompts of {_spans(self.batches)} tokens, {overhead.new_tokens} more of each "
            "row; rows equal in the round with the fewest"
        )
        yield (
            "streams: prompts of such lengths, `python -m steps.serve` and OpenAI's own client, "
            "both on these cores; uneven is the seconds of the slowest stream over their mean"
        )
        statuses = Counter(one.status for one in load.outcomes)
        told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        yield (
            f"load: {len(load.outcomes)} requests of {load.clients} clients, streams and not, "
            f"greedy and sampled (with a seed), some left by their client (what came is compared "
            f"with the beginning); statuses {told}; answers are "
            "compared with those got alone before; memory: server and the model's process, "
            "after the first half and at the end"
        )


def _overhead_lines(overhead: Overhead) -> Iterator[Line]:
    ratio = ratio_of_medians(overhead.predict_s, overhead.bare_s) or 0.0
    yield Line("overhead: `predict`, ms", median(overhead.predict_s) * 1e3, "{:,.1f}")
    yield Line("overhead: bare runtime, ms", median(overhead.bare_s) * 1e3, "{:,.1f}")
    yield Line("overhead: ratio", ratio, "{:,.3f}", Goal(most=1.03))
    yield Line("overhead: texts that differ", overhead.differing, "{:,.0f}")


def _batch_lines(kind: str, batch: Batch) -> Iterator[Line]:
    rows, ratio = batch.rows, ratio_of_medians(batch.together_speeds, batch.alone_speeds) or 0.0
    yield Line(f"{kind}: one row at a time, tokens/s", median(batch.alone_speeds), "{:,.0f}")
    yield Line(f"{kind}: {rows} rows, tokens/s", median(batch.together_speeds), "{:,.0f}")
    yield Line(f"{kind}: rows, ratio", ratio, goal=Goal(least=1.7))
    yield Line(f"{kind}: rows of {rows} that are equal", min(batch.equal_rows), "{:,.0f}")


def _stream_lines(kind: str, streams: Streams) -> Iterator[Line]:
    alone, together = _speeds(streams.alone), _speeds(streams.together)
    count = len(streams.together[0].streams)
    uneven = median(each.slowest_to_mean for each in streams.together)
    ratio = ratio_of_medians(together, alone) or 0.0
    yield Line(f"{kind}: 1 stream, tokens/s", median(alone), "{:,.0f}")
    yield Line(f"{kind}: {count} streams, tokens/s", median(together), "{:,.0f}")
    yield Line(f"{kind}: streams, ratio", ratio, goal=Goal(least=1.6))
    yield Line(f"{kind}: streams, uneven", uneven, goal=Goal(most=2.5))
    for name, rounds in (("1 stream", streams.alone), (f"{count} streams", streams.together)):
        first = median(stream.first_s for each in rounds for stream in each.streams)
        yield Line(f"{kind}: {name}, first text, ms", first * 1e3, "{:,.0f}")


def _load_lines(load: Load) -> Iterator[Line]:
    count, none = "{:,.0f}", Goal(most=0)
    failed = sum(one.status != "200" for one in load.outcomes)
    yield Line("load: requests/s", len(load.outcomes) / load.seconds)
    yield Line("load: requests that failed", failed, count, none)
    for kind in Kind:
        answers = load.of(kind)
        differing = sum(not one.same for one in answers)
        yield Line(f"load: of {len(answers)} {kind.value}, differing", differing, count, none)
    anothers = sum(one.anothers for one in load.outcomes)
    yield Line("load: answers to another question", anothers, count, none)
    yield Line("load: memory after the first half, MB", load.rss_half_bytes / 1e6, count)
    yield Line("load: memory at the end, MB", load.rss_end_bytes / 1e6, count)
    yield Line("load: memory growth", load.growth, "{:.1%}", Goal(most=0.05))
    yield Line("load: still waiting or running", load.waiting + load.running, count, none)


def _speeds(rounds: Sequence[Round]) -> tuple[float, ...]:
    return tuple(each.tokens_per_s for each in rounds)


def _span(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def _spans(batches: Mapping[str, Batch]) -> str:
    return " and ".join(f"{_span(batch.prompt_tokens)} ({kind})" for kind, batch in batches.items())


def _versions() -> dict[str, str]:
    return {package: metadata.version(package) for package in PACKAGES}
