"""Finish runs of the steps before register, with tiny models, on a real tracking store."""

import dataclasses
import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.config import compose as configs
from slmflow.config.schema.evaluation import Reference
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import entries, registered_models, runs
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
from slmflow.pipeline.step_runner import run
from slmflow.reports import html_report, markdown_report, report_files, run_description
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels
from steps.register import register
from tests.metrics.samples import GENAI, REPORT, TRANSFORMERS

ECHO = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return model_input

mlflow.models.set_model(Echo())
"""
R = TypeVar("R", bound=Result)

_finished: dict[Any, tuple[tuple[str, ...], Comparison]] = {}


def finish_evaluation(
    *arguments: str, rows: tuple[str, ...] = ("Tokyo", "Paris"), **genai: Any
) -> tuple[tuple[str, ...], Comparison]:
    """Finish a run of each step up to evaluate; return arguments that reuse them, and the result.

    The metrics are those of `tests.metrics.samples`, except for genai's exact match, which is
    higher than the reference's, and those in `genai`. Each tracking store gets an evaluation once.
    """
    key = (mlflow.get_tracking_uri(), arguments, rows, str(genai))
    if key not in _finished:
        unique = (*arguments, f"generation.max_new_tokens={len(_finished) + 1}")
        _finished[key] = unique, _finish_steps(unique, rows, genai)
    return _finished[key]


def finish_evaluation_on_rows(
    arguments: tuple[str, ...], before: Comparison, *rows: str
) -> tuple[tuple[str, ...], Comparison]:
    """Finish another run of evaluate, with the same models and metrics, on other rows."""
    unique = (*arguments, f"evaluation.limit={len(rows)}")
    models = tuple(dataclasses.replace(model, n=len(rows)) for model in before.models)
    evaluation = _finish(Evaluation, _comparison(rows, models), unique)
    return unique, Comparison.from_result(evaluation)


def _finish_steps(
    arguments: tuple[str, ...], rows: tuple[str, ...], genai: dict[str, Any]
) -> Comparison:
    _finish(Weights, lambda _: Weights(str(_store_entry("weights"))), arguments)
    _finish(OnnxModel, lambda _: OnnxModel(str(_store_entry("onnx"))), arguments)
    transformers = _finish(
        TransformersModel, lambda _: TransformersModel.from_info(log_echo_model()), arguments
    )
    converted = _finish(GenaiModel, lambda _: GenaiModel.from_info(log_echo_model()), arguments)
    _finish(Measurements, _measurements, arguments)
    config = configs.load(arguments)
    fields = {"n": len(rows), "target": config.target.name}
    metrics: dict[str, Any] = {"exact_match": 0.98} | genai
    models = (
        dataclasses.replace(TRANSFORMERS, **fields, model_uri=transformers.model_uri),
        dataclasses.replace(GENAI, **fields, model_uri=converted.model_uri, **metrics),
    )
    if config.evaluation.reference is Reference.none:
        alone = {"p_values": {}, "differences": {}, "verdict": None, "agreement": None}
        models = (dataclasses.replace(models[-1], **alone),)
    evaluation = _finish(Evaluation, _comparison(rows, models), arguments)
    return Comparison.from_result(evaluation)


def _measurements(step: Step) -> Measurements:
    mlflow.log_dict({}, Measurements.artifact)
    return Measurements(step.run.info.run_id, {}, ())


def _comparison(
    answers: tuple[str, ...], models: tuple[ModelMetrics, ...]
) -> Callable[[Step], Evaluation]:
    def evaluate(step: Step) -> Evaluation:
        dataset = from_pandas(pd.DataFrame({"answer": list(answers)}), name="rows")
        mlflow.log_input(dataset, context="evaluation")
        comparison = Comparison(step.run.info.run_id, "tiny_phi3", models)
        rows = REPORT.rows if comparison.reference else None
        _log_report(dataclasses.replace(REPORT, comparison=comparison, rows=rows))
        return comparison.to_result()

    return evaluate


def _log_report(content: ReportContent) -> None:
    """Log the report as `artifacts.log_report` does, with the pages of the first one."""
    content.comparison.log_metrics()
    mlflow.log_text(markdown_report.render(content), report_files.MARKDOWN)
    html, figure = _draw_pages()
    mlflow.log_text(html, report_files.HTML)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, report_files.PNG)
        file.write_bytes(figure)
        mlflow.log_artifact(str(file))
    mlflow.set_tag(MLFLOW_RUN_NOTE, run_description.render(content))


@functools.cache
def _draw_pages() -> tuple[str, bytes]:
    """Return a report's page and figure. They take a second to draw, and no step reads them."""
    drawn = io.BytesIO()
    panels.draw_page(REPORT.comparison.models, REPORT.comparison.title).savefig(drawn)
    return html_report.render(REPORT), drawn.getvalue()


def log_echo_model() -> Any:
    """Log a model that returns its input, to the active run."""
    Path("echo.py").write_text(ECHO)
    return mlflow.pyfunc.log_model(python_model="echo.py", name="echo", pip_requirements=[])


@dataclasses.dataclass(frozen=True)
class RegisteredModel:
    """A registered model that only one test uses."""

    name: str

    def register(self, *arguments: str) -> int:
        """Run the step and return its exit status."""
        return run("register", register, [*arguments, f"registry.name={self.name}"])

    def version_under(self, alias: str) -> str | None:
        """Return the version under an alias."""
        return registered_models.aliases(self.name).get(alias)

    def versions(self) -> list[ModelVersion]:
        """Return all versions."""
        return list(MlflowClient().search_model_versions(f"name='{self.name}'"))


def newest_run(step: str) -> Run:
    """Return the newest run of a step."""
    [newest] = MlflowClient().search_runs(
        ["0"], f"tags.`{runs.STEP}` = '{step}'", order_by=["start_time DESC"], max_results=1
    )
    return newest


def _finish(kind: type[R], work: Callable[[Step], R], arguments: tuple[str, ...]) -> R:
    assert run(kind.step, work, arguments) == 0
    return runs.load_result(kind, newest_run(kind.step).info.run_id)


def _store_entry(kind: str) -> Path:
    def build(folder: Path) -> None:
        (folder / "model.safetensors").write_text(kind)

    return entries.get_or_build(kind, "0" * 64, build)
