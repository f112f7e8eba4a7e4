"""Report a serving measurement: a table with goals, and all raw values as JSON."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from benchmarks.harness.timings import median_of_ratios, ratio_of_medians
from benchmarks.reports import page
from benchmarks.server_load.batch_gain import Batch
from benchmarks.server_load.mixed_load import Load
from benchmarks.server_load.overhead import Overhead
from benchmarks.server_load.requests import Kind
from benchmarks.server_load.streams import Streams
from slmflow.reports import markdown

PACKAGES = ("mlflow", "onnxruntime", "onnxruntime-genai", "openai")


@dataclass(frozen=True)
class Line:
    """A line of the table; minimum or maximum: its goal. `template` formats value and goal."""

    name: str
    value: float
    template: str = "{:,.2f}"
    minimum: float | None = None
    maximum: float | None = None

    def cells(self) -> list[str]:
        """Return name, value and goal as text."""
        goal = ""
        if self.minimum is not None:
            missed = ", missed" if self.value < self.minimum else ""
            goal = f"at least {self.template.format(self.minimum)}{missed}"
        elif self.maximum is not None:
            missed = ", missed" if self.value > self.maximum else ""
            goal = f"at most {self.template.format(self.maximum)}{missed}"
        return [self.name, self.template.format(self.value), goal]


@dataclass(frozen=True)
class Report:
    """One measurement, with batches and streams by kind of prompt."""

    HEADER: ClassVar = ("figure", "value", "goal")

    shape: str
    target: str
    overhead: Overhead
    batches: Mapping[str, Batch]
    streams: Mapping[str, Streams]
    load: Load

    @property
    def title(self) -> str:
        """The title: shape and target."""
        return f"Serving {self.shape} at {self.target}"

    def lines(self) -> Iterator[Line]:
        """Yield the lines of the table."""
        yield from _overhead_lines(self.overhead)
        for kind, batch in self.batches.items():
            yield from _batch_lines(kind, batch)
        for kind, streams in self.streams.items():
            yield from _stream_lines(kind, streams)
        yield from _load_lines(self.load)

    def rows(self) -> list[list[str]]:
        """Return the table as text."""
        return [line.cells() for line in self.lines()]

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        table = markdown.table(self.HEADER, self.rows())
        return page.render(self.title, table, self._notes())

    def json(self) -> str:
        """Return every raw value and the table's values."""
        overhead = self.overhead
        pairs = {"predict to the bare runtime": (overhead.predict_s, overhead.bare_s)}
        for kind, batch in self.batches.items():
            name = f"{kind}, rows together to one at a time"
            pairs[name] = (batch.together_speeds, batch.alone_speeds)
        for kind, streams in self.streams.items():
            pairs[f"{kind}, streams together to alone"] = (
                streams.together_speeds,
                streams.alone_speeds,
            )
        fields = {
            **dataclasses.asdict(self),
            **page.setup_fields(PACKAGES),
            "figures": {line.name: line.value for line in self.lines()},
            "medians of ratios": {name: median_of_ratios(*pair) for name, pair in pairs.items()},
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        overhead, load = self.overhead, self.load
        yield page.setup_note(PACKAGES)
        rounds = len(next(iter(self.batches.values())).together_s)
        yield f"medians of {rounds} alternating rounds, and ratios of medians; random weights"
        yield (
            f"overhead: {len(overhead.predict_s)} turns of `predict` of the loaded MLflow model "
            "and of a loop over the same loaded ONNX Runtime GenAI model; a prompt of "
            f"{_span(overhead.prompt_tokens)} tokens is tokenized and {overhead.new_tokens} more "
            "are generated and decoded; texts differ where single bytes form no character, because "
            "`predict` decodes them incrementally"
        )
        yield (
            f"batch: prompts of {_spans(self.batches)} tokens, {overhead.new_tokens} new tokens "
            "per row; equal rows in the round with the fewest"
        )
        yield (
            "streams: prompts of these lengths, `python -m steps.serve` and OpenAI's client on the "
            "same cores; uneven is the seconds of the slowest stream divided by their mean"
        )
        statuses = Counter(each.status for each in load.outcomes)
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        yield (
            f"load: {len(load.outcomes)} requests of {load.clients} clients, streams and not, "
            f"greedy and sampled (with a seed), some abandoned by their client (compared up to "
            f"there); statuses {counts}; responses are compared with those without load; memory: "
            "server and the model's process, after the first half and at the end"
        )


def _overhead_lines(overhead: Overhead) -> Iterator[Line]:
    ratio = ratio_of_medians(overhead.predict_s, overhead.bare_s) or 0.0
    yield Line("overhead: `predict`, ms", median(overhead.predict_s) * 1e3, "{:,.1f}")
    yield Line("overhead: bare runtime, ms", median(overhead.bare_s) * 1e3, "{:,.1f}")
    yield Line("overhead: ratio", ratio, "{:,.3f}", maximum=1.03)
    yield Line("overhead: texts that differ", overhead.differing, "{:,.0f}")


def _batch_lines(kind: str, batch: Batch) -> Iterator[Line]:
    rows, ratio = batch.rows, ratio_of_medians(batch.together_speeds, batch.alone_speeds) or 0.0
    yield Line(f"{kind}: one row at a time, tokens/s", median(batch.alone_speeds), "{:,.0f}")
    yield Line(f"{kind}: {rows} rows, tokens/s", median(batch.together_speeds), "{:,.0f}")
    yield Line(f"{kind}: rows, ratio", ratio, minimum=1.7)
    yield Line(f"{kind}: rows of {rows} that are equal", min(batch.equal_rows), "{:,.0f}")


def _stream_lines(kind: str, streams: Streams) -> Iterator[Line]:
    alone, together = streams.alone_speeds, streams.together_speeds
    count = len(streams.together[0].streams)
    uneven = median(each.slowest_to_mean for each in streams.together)
    ratio = ratio_of_medians(together, alone) or 0.0
    yield Line(f"{kind}: 1 stream, tokens/s", median(alone), "{:,.0f}")
    yield Line(f"{kind}: {count} streams, tokens/s", median(together), "{:,.0f}")
    yield Line(f"{kind}: streams, ratio", ratio, minimum=1.6)
    yield Line(f"{kind}: streams, uneven", uneven, maximum=2.5)
    for name, rounds in (("1 stream", streams.alone), (f"{count} streams", streams.together)):
        first = median(stream.first_s for each in rounds for stream in each.streams)
        yield Line(f"{kind}: {name}, first text, ms", first * 1e3, "{:,.0f}")


def _load_lines(load: Load) -> Iterator[Line]:
    count = "{:,.0f}"
    failed = sum(each.status != "200" for each in load.outcomes)
    yield Line("load: requests/s", len(load.outcomes) / load.seconds)
    yield Line("load: requests that failed", failed, count, maximum=0)
    for kind in Kind:
        outcomes = load.successful(kind)
        differing = sum(not each.same for each in outcomes)
        name = f"load: of {len(outcomes)} {kind.value}, differing"
        yield Line(name, differing, count, maximum=0)
    swapped = sum(each.is_other_baseline for each in load.outcomes)
    yield Line("load: answers to another question", swapped, count, maximum=0)
    yield Line("load: memory after the first half, MB", load.rss_half_bytes / 1e6, count)
    yield Line("load: memory at the end, MB", load.rss_end_bytes / 1e6, count)
    yield Line("load: memory growth", load.growth, "{:.1%}", maximum=0.05)
    unfinished = load.waiting + load.running
    yield Line("load: still waiting or running", unfinished, count, maximum=0)


def _span(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def _spans(batches: Mapping[str, Batch]) -> str:
    return " and ".join(f"{_span(batch.prompt_tokens)} ({kind})" for kind, batch in batches.items())
