"""Finished runs of the steps before register, with small models, on a real tracking store."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from slmflow.config import compose as configs
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import runs, step, store
from slmflow.pipeline.results import (
    Evaluation,
    GenaiModel,
    Measurements,
    OnnxModel,
    Result,
    TransformersModel,
    Weights,
)
from slmflow.pipeline.step import Step
from slmflow.reports import report
from steps.register import register
from tests.metrics.samples import FINDINGS, GENAI, TRANSFORMERS

ECHO = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return model_input

mlflow.models.set_model(Echo())
"""
R = TypeVar("R", bound=Result)


def evaluate(
    *arguments: str, rows: tuple[str, ...] = ("Tokyo", "Paris"), **genai: float | None
) -> tuple[tuple[str, ...], Comparison]:
    """Finish a run of each step up to evaluate; return the arguments that lead to it, and it.

    The figures are those of `tests.metrics.samples`, but for genai's exact match, which is better,
    and these. The same evaluation is made once in a tracking store.
    """
    wanted = (mlflow.get_tracking_uri(), arguments, rows, *genai.items())
    if wanted not in _made:
        unique = (*arguments, f"generation.max_new_tokens={len(_made) + 1}")
        _made[wanted] = unique, _evaluate(unique, rows, genai)
    return _made[wanted]


_made: dict[Any, tuple[tuple[str, ...], Comparison]] = {}


def evaluate_again(
    arguments: tuple[str, ...], before: Comparison, *rows: str
) -> tuple[tuple[str, ...], Comparison]:
    """Finish another run of evaluate: of the same models, with the same figures, on other rows."""
    unique = (*arguments, f"evaluation.limit={len(rows)}")
    figures = tuple(dataclasses.replace(row, n=len(rows)) for row in before.figures)
    evaluation = _finish("evaluate", _comparison(rows, figures), unique)
    return unique, Comparison.from_result(evaluation)


def _evaluate(
    arguments: tuple[str, ...], rows: tuple[str, ...], genai: dict[str, float | None]
) -> Comparison:
    def fetch(_: Step) -> Weights:
        return Weights(str(_entry("weights")))

    def convert(_: Step) -> OnnxModel:
        return OnnxModel(str(_entry("onnx")))

    _finish("fetch", fetch, arguments)
    _finish("convert", convert, arguments)
    original: TransformersModel = _finish(
        "log_transformers", lambda _: TransformersModel.from_info(log_echo()), arguments
    )
    onnx: GenaiModel = _finish("log_genai", lambda _: GenaiModel.from_info(log_echo()), arguments)
    _finish("measure", lambda running: Measurements(running.run.info.run_id, {}, ()), arguments)
    known = {"n": len(rows), "target": configs.load(arguments).target.name}
    transformers = dataclasses.replace(TRANSFORMERS, **known, model_uri=original.model_uri)
    measured: dict[str, Any] = {"exact_match": 0.98} | genai
    converted = dataclasses.replace(GENAI, **known, model_uri=onnx.model_uri, **measured)
    evaluation = _finish("evaluate", _comparison(rows, (transformers, converted)), arguments)
    return Comparison.from_result(evaluation)


def _comparison(
    rows: tuple[str, ...], figures: tuple[ModelMetrics, ...]
) -> Callable[[Step], Evaluation]:
    def compare(running: Step) -> Evaluation:
        dataset = from_pandas(pd.DataFrame({"answer": list(rows)}), name="rows")
        mlflow.log_input(dataset, context="evaluation")
        comparison = Comparison(running.run.info.run_id, "tiny_phi3", figures)
        report.log(dataclasses.replace(FINDINGS, comparison=comparison))
        return comparison.to_result()

    return compare


def log_echo() -> Any:
    """Log a model that answers with what it is asked, to the active run."""
    Path("echo.py").write_text(ECHO)
    return mlflow.pyfunc.log_model(python_model="echo.py", name="echo", pip_requirements=[])


@dataclasses.dataclass(frozen=True)
class Registered:
    """A registered model of a test's own."""

    name: str

    def register(self, *arguments: str) -> int:
        """Run the step and return its exit status."""
        return step.run("register", register, [*arguments, f"registry.name={self.name}"])

    def under(self, alias: str) -> str | None:
        """Return the version under an alias."""
        found = MlflowClient().get_registered_model(self.name).aliases.get(alias)
        return None if found is None else str(found)

    def versions(self) -> list[ModelVersion]:
        """Return all versions."""
        return list(MlflowClient().search_model_versions(f"name='{self.name}'"))


def last_run(name: str) -> Run:
    """Return the newest run of a step."""
    [newest] = MlflowClient().search_runs(
        ["0"], f"tags.`{runs.STEP}` = '{name}'", order_by=["start_time DESC"], max_results=1
    )
    return newest


def _finish(name: str, work: Callable[[Step], R], arguments: tuple[str, ...]) -> R:
    assert step.run(name, work, arguments) == 0
    models = (Weights, OnnxModel, TransformersModel, GenaiModel)
    kind = {k.step: k for k in (*models, Measurements, Evaluation)}
    return runs.load_result(kind[name], last_run(name).info.run_id)  # type: ignore[return-value]


def _entry(kind: str) -> Path:
    def build(folder: Path) -> None:
        (folder / "model.safetensors").write_text(kind)

    return store.get_or_build(kind, "0" * 64, build)
