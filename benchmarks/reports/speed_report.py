"""Show a speed measurement: a table for the screen and for Markdown, raw values as JSON."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.rounds import TURN_TOKENS
from benchmarks.harness.series import FIGURES, Series, median_of_ratios, middle, ratio_of_medians
from slmflow.reports import markdown
from slmflow.system import machine
from slmflow.system.git_state import git_state

BASELINE = "builder"


@dataclass(frozen=True)
class Report:
    """One measurement; `left_out` holds the reason by the name of each engine that has no part."""

    shape: str
    target: str
    series: Sequence[Series]
    left_out: Mapping[str, str]

    @property
    def title(self) -> str:
        """What was measured."""
        return f"Speed of {self.shape} at {self.target}"

    @property
    def engines(self) -> list[str]:
        """The engines that were measured."""
        return list(dict.fromkeys(series.engine for series in self.series))

    @property
    def prompt_lengths(self) -> list[int]:
        """The lengths of the prompts, in tokens."""
        return list(dict.fromkeys(series.prompt_tokens for series in self.series))

    def of(self, engine: str, length: int) -> Series | None:
        """Return the series of an engine, None where it has no part."""
        found = (s for s in self.series if (s.engine, s.prompt_tokens) == (engine, length))
        return next(found, None)

    def rows(self) -> Iterator[list[str]]:
        """Yield a line per length and figure: its name, and each engine's median and ratio."""
        for length in self.prompt_lengths:
            for figure in FIGURES:
                base = self.of(BASELINE, length)
                baseline = figure.values(base) if base else ()
                cells = [
                    _cell(figure.values(series), baseline)
                    for engine in self.engines
                    if (series := self.of(engine, length))
                ]
                yield [f"{figure.name} (prompt {length})", *cells]

    def markdown(self) -> str:
        """Return the table with what it was measured on and how."""
        table = markdown.table(["figure", *self.engines], self.rows())
        return f"# {self.title}\n\n{table}\n\n" + "\n".join(f"- {note}" for note in self._notes())

    def json(self) -> str:
        """Return every raw value, and the medians and ratios made of them."""
        fields = {
            "shape": self.shape,
            "target": self.target,
            "machine": machine.description(),
            "git": git_state(),
            "left_out": dict(self.left_out),
            "series": [
                {**dataclasses.asdict(series), "figures": self._figures(series)}
                for series in self.series
            ],
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        first = self.series[0]
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
            series = next(s for s in self.series if s.engine == engine)
            yield f"{engine}: {series.description}"
        for engine, reason in self.left_out.items():
            yield f"{engine} is left out: {reason}"

    def _figures(self, series: Series) -> dict[str, dict[str, Any]]:
        base = self.of(BASELINE, series.prompt_tokens)
        found = {}
        for figure in FIGURES:
            values, baseline = figure.values(series), figure.values(base) if base else ()
            found[figure.name] = {
                "median": middle(values),
                f"ratio of medians to {BASELINE}": ratio_of_medians(values, baseline),
                f"median of ratios to {BASELINE}": median_of_ratios(values, baseline),
            }
        return found


def _cell(values: Sequence[float], baseline: Sequence[float]) -> str:
    if (value := middle(values)) is None:
        return "-"
    ratio = ratio_of_medians(values, baseline)
    return f"{value:,.0f}" if ratio is None else f"{value:,.0f} ({ratio:.2f})"
