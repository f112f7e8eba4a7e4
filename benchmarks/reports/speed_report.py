"""Report a speed measurement: a table of medians, and all raw values as JSON."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.engine_rounds import TURN_TOKENS
from benchmarks.harness.timings import (
    METRICS,
    EngineTimings,
    median_of_ratios,
    median_or_none,
    ratio_of_medians,
)
from benchmarks.reports import page
from slmflow.reports import markdown
from slmflow.system import machine

BASELINE = "builder"


@dataclass(frozen=True)
class Report:
    """One measurement.

    targets: what each engine of a converted model was converted for, by its name; left_out: the
    reason by the name of each engine that did not run.
    """

    shape: str
    targets: Mapping[str, str]
    timings: Sequence[EngineTimings]
    left_out: Mapping[str, str]

    @property
    def title(self) -> str:
        """The title, with the shape."""
        return f"Speed of {self.shape} at 4 bits"

    @property
    def engines(self) -> list[str]:
        """The engines that ran."""
        return list(dict.fromkeys(timings.engine for timings in self.timings))

    @property
    def prompt_lengths(self) -> list[int]:
        """The lengths of the prompts, in tokens."""
        return list(dict.fromkeys(timings.prompt_tokens for timings in self.timings))

    def find_timings(self, engine: str, length: int) -> EngineTimings | None:
        """Return the timings of an engine at a prompt length, None if it did not run."""
        matching = (t for t in self.timings if (t.engine, t.prompt_tokens) == (engine, length))
        return next(matching, None)

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per prompt length and metric: median and ratio to the baseline per engine."""
        for length in self.prompt_lengths:
            baseline = self.find_timings(BASELINE, length)
            for metric in METRICS:
                baseline_values = metric.values(baseline) if baseline else ()
                cells = [
                    _cell(metric.values(timings), baseline_values)
                    for engine in self.engines
                    if (timings := self.find_timings(engine, length))
                ]
                yield [f"{metric.name} (prompt {length})", *cells]

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        table = markdown.table(["figure", *self.engines], self.rows())
        return page.render(self.title, table, self._notes())

    def json(self) -> str:
        """Return every raw value, with medians and ratios."""
        fields = {
            "shape": self.shape,
            "targets": dict(self.targets),
            **page.setup_fields(),
            "left_out": dict(self.left_out),
            "series": [
                {**dataclasses.asdict(timings), "figures": self._statistics(timings)}
                for timings in self.timings
            ],
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        first = self.timings[0]
        yield machine.description()
        yield (
            f"medians of {len(first.prefill_s)} alternating rounds; in brackets the ratio of "
            f"medians to {BASELINE}"
        )
        yield (
            f"decode: {first.new_tokens} tokens after the prompt, in turns of {TURN_TOKENS}; "
            "memory: the engine's process"
        )
        for engine in self.engines:
            timings = next(t for t in self.timings if t.engine == engine)
            target = f", target={self.targets[engine]}" if engine in self.targets else ""
            yield f"{engine}: {timings.description}{target}"
        for engine, reason in self.left_out.items():
            yield f"{engine} is left out: {reason}"

    def _statistics(self, timings: EngineTimings) -> dict[str, dict[str, Any]]:
        baseline = self.find_timings(BASELINE, timings.prompt_tokens)
        statistics = {}
        for metric in METRICS:
            values = metric.values(timings)
            baseline_values = metric.values(baseline) if baseline else ()
            statistics[metric.name] = {
                "median": median_or_none(values),
                f"ratio of medians to {BASELINE}": ratio_of_medians(values, baseline_values),
                f"median of ratios to {BASELINE}": median_of_ratios(values, baseline_values),
            }
        return statistics


def _cell(values: Sequence[float], baseline: Sequence[float]) -> str:
    if (value := median_or_none(values)) is None:
        return "-"
    ratio = ratio_of_medians(values, baseline)
    return f"{value:,.0f}" if ratio is None else f"{value:,.0f} ({ratio:.2f})"
