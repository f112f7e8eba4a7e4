"""What evaluate hands on."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from steps.common import console
from steps.common.results import Result, Stale
from steps.convert.result import OnnxModel
from steps.evaluate.figures import MEANINGS, FlavorFigures
from steps.measure.result import Measurements

SIGNIFICANT = 0.05
"""The p-value below which a difference is called one."""


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
        """Raise Stale unless the run still has its comparison."""
        try:
            mlflow.artifacts.load_dict(f"runs:/{self.run_id}/comparison.json")
        except (MlflowException, OSError) as error:
            raise Stale(f"the comparison of run {self.run_id} is not there any more") from error

    @property
    def title(self) -> str:
        """What was compared, e.g. `tiny_phi3 on cpu_int4 (optimum)`, or the model's address."""
        converted = self.figures[-1]
        if converted.target is None:
            return converted.model_uri
        return f"{self.model} on {converted.target} ({converted.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [row.flavor for row in self.figures]

    def table(self) -> list[list[str]]:
        """Return a line per figure: its name, then how it is written for each flavor."""
        names = (*MEANINGS, *self.figures[0].further)
        return [[name, *(row.written(name) for row in self.figures)] for name in names]

    @property
    def differences(self) -> str:
        """In which metrics the paired tests tell the flavors apart; empty without tests."""
        reference, compared = self.figures[0], self.figures[-1]
        if not compared.p_values:
            return ""
        apart = [
            f"{name} p = {compared.p_written(name)}".replace("= <", "< ")
            for name, p in compared.p_values.items()
            if p < SIGNIFICANT
        ]
        found = f"in {', '.join(apart)}" if apart else "in no metric"
        return (
            f"Beyond chance (p < {SIGNIFICANT}, a paired test of each metric by itself) "
            f"{compared.flavor} differs from {reference.flavor} {found}."
        )

    def log_figures(self) -> None:
        """Log `comparison.json` and metrics such as `genai.exact_match` to the active run."""
        rows = [row.columns() for row in self.figures]
        mlflow.log_table(pd.DataFrame(rows), "comparison.json")
        for row in self.figures:
            mlflow.log_metrics(row.metrics())

    def show(self) -> None:
        """Print the comparison as a table."""
        console.table(self.title, ["", *self.flavors], self.table(), self.differences)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result that `to_json` made this object of."""
        figures = tuple(FlavorFigures.from_json(row) for row in fields["figures"])
        return cls(**fields | {"figures": figures})
