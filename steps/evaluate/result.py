"""What evaluate hands on."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from steps.common import console
from steps.common.results import Result, Stale
from steps.log_genai.result import GenaiModel
from steps.log_transformers.result import TransformersModel


def _figure(form: str, meaning: str) -> Any:
    """Declare a figure: how it is written and what it is."""
    return dataclasses.field(metadata={"form": form, "meaning": meaning})


@dataclass(frozen=True)
class FlavorFigures:
    """One row of the comparison; its fields are the columns of `comparison.json`, in order.

    None is a figure that was not measured. The unit is in the name: `_s` seconds, `_ms`
    milliseconds, `_mb` 10^6 bytes; `exact_match`, `token_f1` and `agreement` go from 0 to 1.
    """

    flavor: str
    target: str
    exporter: str
    model_uri: str
    n: int = _figure("{}", "rows of the evaluation data")
    exact_match: float | None = _figure("{:.1%}", "answers that are the expected text")
    token_f1: float | None = _figure(
        "{:.1%}", "words shared with the expected text, F1 as in SQuAD"
    )
    agreement: float | None = _figure("{:.1%}", "answers that are the transformers flavor's text")
    perplexity: float | None = _figure("{:.3f}", "of the expected answers; 1 is certainty")
    ttft_ms_p50: float | None = _figure("{:,.1f} ms", "time to the first token, median")
    latency_ms_p50: float | None = _figure("{:,.1f} ms", "time to the whole answer, median")
    latency_ms_p95: float | None = _figure(
        "{:,.1f} ms", "time to the whole answer, 95th percentile"
    )
    prefill_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens of the prompt taken in, median"
    )
    decode_tokens_per_s: float | None = _figure(
        "{:,.1f} /s", "tokens generated after the first, median"
    )
    load_s: float | None = _figure("{:,.2f} s", "from files on disk to a model that can answer")
    peak_rss_mb: float | None = _figure(
        "{:,.0f} MB", "most memory held while it answered, Python included"
    )
    model_size_mb: float | None = _figure("{:,.1f} MB", "files of the MLflow model")

    def measured(self) -> dict[str, float]:
        """Return the figures that were measured, `n` included, by column."""
        columns = dataclasses.asdict(self).items()
        return {name: value for name, value in columns if isinstance(value, int | float)}

    def metrics(self) -> dict[str, float]:
        """Return them under names that tell the flavors apart, e.g. `genai.exact_match`."""
        return {f"{self.flavor}.{name}": value for name, value in self.measured().items()}

    def written(self, name: str) -> str:
        """Return a figure with its unit, as people read it; `-` is one that was not measured."""
        value = getattr(self, name)
        return "-" if value is None else str(MEANINGS[name]["form"]).format(value)


MEANINGS = {
    field.name: field.metadata for field in dataclasses.fields(FlavorFigures) if field.metadata
}
"""How each figure is written (`form`) and what it is (`meaning`), in the order of the columns."""


@dataclass(frozen=True)
class Evaluation(Result):
    """The comparison of both flavors of a model, and the run it was measured in."""

    step: ClassVar = "evaluate"
    reads: ClassVar = ("evaluation", "generation")
    consumes: ClassVar = (TransformersModel, GenaiModel)
    packages: ClassVar = ("mlflow", "onnxruntime-genai", "torch", "transformers")

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
        """What was compared, e.g. `tiny_phi3 on cpu_int4 (optimum)`."""
        converted = self.figures[-1]
        return f"{self.model} on {converted.target} ({converted.exporter})"

    @property
    def flavors(self) -> list[str]:
        """The names of the compared flavors, the reference first."""
        return [row.flavor for row in self.figures]

    def table(self) -> list[list[str]]:
        """Return a line per figure: its name, then how it is written for each flavor."""
        return [[name, *(row.written(name) for row in self.figures)] for name in MEANINGS]

    def log_figures(self) -> None:
        """Log `comparison.json` and metrics such as `genai.exact_match` to the active run."""
        rows = [dataclasses.asdict(row) for row in self.figures]
        mlflow.log_table(pd.DataFrame(rows), "comparison.json")
        for row in self.figures:
            mlflow.log_metrics(row.metrics())

    def show(self) -> None:
        """Print the comparison as a table."""
        console.table(self.title, ["", *self.flavors], self.table())

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result that `to_json` made this object of."""
        figures = tuple(FlavorFigures(**row) for row in fields["figures"])
        return cls(**fields | {"figures": figures})
