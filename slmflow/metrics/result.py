"""What evaluate hands on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.console import messages
from slmflow.conversion.result import OnnxModel
from slmflow.measurement.result import Measurements
from slmflow.metrics.figures import MEANINGS, FlavorFigures, more_is_better
from slmflow.pipeline.results import Result, Stale, refuse_gone

SIGNIFICANT = 0.05
"""The p-value below which a difference is called one."""

HEADLINES = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "latency_ms_p50": "median latency",
    "peak_rss_mb": "peak memory",
    "model_size_mb": "model size",
}
"""The figures that are told first, and what they are called."""

PAGE = "comparison.html"
REPORT = ("comparison.md", PAGE, "comparison.png")
"""The artifacts of the run that people look at; the figures are in `comparison.json`."""


@dataclass(frozen=True)
class Evaluation(Result):
    """The comparison of both flavors of a model, and the run it was measured in."""

    step: ClassVar = "evaluate"
    reads: ClassVar = ("evaluation",)
    consumes: ClassVar = (OnnxModel, Measurements)
    packages: ClassVar = ("mlflow", "rouge-score", "sacrebleu", "scipy")

    run_id: str
    model: str
    figures: tuple[FlavorFigures, ...]

    def check(self) -> None:
        """Raise Stale unless the run still has its comparison, and what it compares is there."""
        try:
            mlflow.artifacts.load_dict(f"runs:/{self.run_id}/comparison.json")
        except (MlflowException, OSError) as error:
            raise Stale(f"the comparison of run {self.run_id} is not there any more") from error
        for row in self.figures:
            refuse_gone(row.model_uri)

    @property
    def reference(self) -> FlavorFigures | None:
        """The figures that the others are compared with; None of one model alone."""
        return self.figures[0] if len(self.figures) > 1 else None

    @property
    def compared(self) -> FlavorFigures:
        """The figures of the model that the comparison is about."""
        return self.figures[-1]

    @property
    def title(self) -> str:
        """What was compared, e.g. `tiny_phi3 on cpu_int4 (optimum)`, or the model's address."""
        converted = self.compared
        if converted.target is None:
            return converted.model_uri
        return f"{self.model} on {converted.target} ({converted.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [row.flavor for row in self.figures]

    def table(self) -> list[list[str]]:
        """Return a line per figure: its name, then how it is written for each flavor."""
        return [[name, *(row.written(name) for row in self.figures)] for name in self.names]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the figures that people are shown, the user's own metrics last.

        Accuracy is not among them where no row has choices, and of one model alone nothing is that
        compares it with another.
        """
        chosen = any(row.accuracy is not None for row in self.figures)
        idle = set() if chosen else {"accuracy"}
        if self.reference is None:
            idle |= {"agreement", "shared_prefix"}
        return (*(name for name in MEANINGS if name not in idle), *self.figures[0].further)

    @property
    def headlines(self) -> dict[str, str]:
        """What those of `HEADLINES` are called that were measured of every flavor."""
        return {
            name: called
            for name, called in HEADLINES.items()
            if all(row.value(name) is not None for row in self.figures)
        }

    @property
    def verdict(self) -> str:
        """The first headlines of each flavor, and in what they differ beyond chance."""
        told = list(self.headlines.items())[:2]
        rows = [
            f"{row.flavor}: {', '.join(f'{row.value_written(n)} {called}' for n, called in told)}"
            for row in reversed(self.figures)
        ]
        return " ".join(part for part in ("; ".join(rows) + ".", self.differences) if part)

    @property
    def effects(self) -> dict[str, str]:
        """`better` or `worse` for each metric in which the paired tests tell the flavors apart."""
        reference, compared = self.reference, self.compared
        if reference is None:
            return {}
        return {
            name: _side(name, compared, reference)
            for name, p in compared.p_values.items()
            if p < SIGNIFICANT
        }

    @property
    def differences(self) -> str:
        """In which metrics the paired tests tell the flavors apart; empty without tests."""
        reference, compared = self.reference, self.compared
        if reference is None or not compared.p_values:
            return ""
        found = " and ".join(
            f"{side} than {reference.flavor} in {', '.join(names)}"
            for side in ("worse", "better")
            if (names := self._apart(side))
        )
        return (
            f"Beyond chance (p < {SIGNIFICANT}, a paired test of each metric by itself) "
            f"{compared.flavor} "
            + (f"is {found}." if found else f"differs from {reference.flavor} in no metric.")
        )

    def _apart(self, side: str) -> list[str]:
        written = self.compared.p_written
        return [
            f"{name} p = {written(name)}".replace("= <", "< ")
            for name, effect in self.effects.items()
            if effect == side
        ]

    def log_figures(self) -> None:
        """Log `comparison.json` and metrics such as `genai.exact_match` to the active run."""
        rows = [row.columns() for row in self.figures]
        mlflow.log_table(pd.DataFrame(rows), "comparison.json")
        for row in self.figures:
            mlflow.log_metrics(row.metrics())

    def show(self) -> None:
        """Print the comparison as a table."""
        messages.table(self.title, ["", *self.flavors], self.table(), self.differences)
        messages.say(f"The report is {self._report()}")

    def _report(self) -> str:
        """Return the page's path, to open in a browser, where the files of runs lie here."""
        files = get_artifact_repository(mlflow.get_run(self.run_id).info.artifact_uri)
        if isinstance(files, LocalArtifactRepository):
            return str(Path(files.artifact_dir, PAGE))
        return f"{PAGE} of run {self.run_id}"

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result that `to_json` made this object of."""
        figures = tuple(FlavorFigures.from_json(row) for row in fields["figures"])
        return cls(**fields | {"figures": figures})


def _side(name: str, ours: FlavorFigures, theirs: FlavorFigures) -> str:
    gain = (ours.value(name) or 0) - (theirs.value(name) or 0)
    return "better" if (gain > 0) == more_is_better(name) else "worse"
