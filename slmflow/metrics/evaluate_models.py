"""Evaluate measured models: quality through `mlflow.models.evaluate`, one child run per model.

In the child run and on the logged model, the metrics have the names of the comparison's columns, so
that MLflow can compare flavors, targets and models.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource
from mlflow.data.pandas_dataset import PandasDataset, from_pandas

from slmflow.config import run_names, target_advice
from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.console import library_output, progress_bars
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement
from slmflow.metrics import answer_table, precision, verdict
from slmflow.metrics.evaluation_inputs import EvaluationInputs
from slmflow.metrics.model_metrics import SHARE, ModelMetrics
from slmflow.metrics.performance import compute_performance
from slmflow.metrics.scoring import METRICS, Metric, estimate_uncertainty, text_metric
from slmflow.metrics.user_metrics import UserMetric
from slmflow.metrics.verdict import Criterion, Verdict
from slmflow.pipeline import step_parts
from slmflow.pipeline.results import GenaiModel, OnnxModel, TransformersModel


@dataclass(frozen=True)
class EvaluatedModel:
    """A model's metrics, its answer table with the worst regressions first, and its child run."""

    metrics: ModelMetrics
    table: pd.DataFrame
    run_id: str


def evaluate_models(
    config: Config,
    inputs: EvaluationInputs,
    measurements: Sequence[Measurement],
    onnx: OnnxModel | None = None,
    tokenizer: Path = Path(),
) -> tuple[EvaluatedModel, ...]:
    """Evaluate each measured model; the first is the reference of the others.

    Logs the rows as a dataset of the active run, with a digest of everything that is sent. Logs
    each model's answer table (`eval_results_table.json`) and metrics to a child run named after the
    model. onnx: of the converted model, None for any other; tokenizer: the tokenizer.json of all
    models, not used for a single one. Raises UserError if a metric of the user fails on an answer.
    """
    user_metrics = {
        metric: text_metric(metric.name, metric.score, is_share=metric.is_share)
        for metric in inputs.user_metrics
    }
    reference = answer_table.build(measurements[0], inputs.rows)
    with progress_bars.spinner("scoring the answers"), library_output.silence():
        dataset = _dataset(config.evaluation, inputs.rows)
        mlflow.log_input(dataset, context="evaluation")
        models = [_evaluate(config, measurements[0], reference, None, dataset, user_metrics, onnx)]
        for measurement in measurements[1:]:
            table = answer_table.add_reference(
                answer_table.build(measurement, inputs.rows), reference, tokenizer
            )
            models.append(
                _evaluate(config, measurement, table, reference, dataset, user_metrics, onnx)
            )
    return tuple(models)


def _evaluate(
    config: Config,
    measurement: Measurement,
    table: pd.DataFrame,
    reference: pd.DataFrame | None,
    dataset: PandasDataset,
    user_metrics: Mapping[UserMetric, Metric],
    onnx: OnnxModel | None,
) -> EvaluatedModel:
    """Evaluate the answer table of a model in a child run."""
    metrics = [m for m in (*METRICS, *user_metrics.values()) if m.is_computable(table)]
    # Before MLflow, so that an error in a user's metric is reported with our message.
    estimated = estimate_uncertainty(metrics, table, reference)
    if reference is not None:
        table = answer_table.sort_by_regression(table, reference)
    model = measurement.model
    performance = compute_performance(measurement)
    with mlflow.start_run(run_name=child_name(config, model), nested=True) as run:
        quality = _evaluate_with_mlflow(model.model_id or None, table, dataset, metrics)
        values: dict[str, Any] = {m.name: quality.get(m.name) for m in METRICS}
        values |= performance.values
        model_metrics = ModelMetrics(
            **describe_model(model, config, onnx),
            n=len(table),
            **values,
            not_answered=sum(answer.error is not None for answer in measurement.answers),
            user_metrics={metric.name: quality[metric.name] for metric in user_metrics},
            user_columns={metric.name: metric.column for metric in user_metrics},
            intervals=estimated.intervals | performance.intervals,
            p_values=estimated.p_values,
            differences=estimated.differences,
        )
        model_metrics = dataclasses.replace(model_metrics, verdict=judge(config, model_metrics))
        others = {k: v for k, v in model_metrics.measured().items() if k not in quality}
        mlflow.log_metrics(others, model_id=model.model_id or None, dataset=dataset)
    return EvaluatedModel(model_metrics, table, run.info.run_id)


def child_name(config: Config, model: MeasuredModel) -> str:
    """Return the name of a model's child run: its flavor, and what was converted."""
    if config.evaluation.model_uri is not None:
        return run_names.shorten(model.flavor)
    kind = GenaiModel if model.flavor == GenaiModel.flavor else TransformersModel
    return run_names.shorten(f"{model.flavor} {step_parts.model_name(kind, config)}")


def describe_model(model: MeasuredModel, config: Config, onnx: OnnxModel | None) -> dict[str, Any]:
    """Return the fields of `ModelMetrics` that are known of a model before its evaluation.

    onnx: what the model of the GenAI flavor was logged from, if it was converted here.
    """
    is_converted_here = config.evaluation.model_uri is None
    return {
        "flavor": model.flavor,
        "target": config.target.name if is_converted_here else None,
        "exporter": config.exporter.name.value if is_converted_here else None,
        "precision": precision.of_model(model, config),
        "model_uri": model.model_uri,
        "mean_kl": onnx.mean_kl if onnx and model.flavor == GenaiModel.flavor else None,
    }


def judge(config: Config, model: ModelMetrics) -> Verdict | None:
    """Return the verdict on a converted model; None for a model without a reference."""
    criteria = {
        name: Criterion(model.differences[name], model.column(name).is_ratio)
        for name in _criteria(model)
        if name in model.differences
    }
    suggestions = target_advice.suggest(config.target, config.exporter)
    return verdict.judge(criteria, model.n, config.evaluation.margin, suggestions)


def _criteria(model: ModelMetrics) -> tuple[str, ...]:
    """Return the metrics that the verdict rests on, if they are measured.

    Choices are correct or not. Of texts the exact match misses a better wording, and the token F1 a
    single wrong word, so both count. Tasks that have neither count by their own shares.
    """
    if "accuracy" in model.differences:
        return "accuracy", "perplexity"
    if "exact_match" in model.differences:
        return "exact_match", "token_f1", "perplexity"
    columns = model.user_columns.items()
    return tuple(name for name, c in columns if c.format == SHARE and c.higher_is_better)


def _dataset(data: EvaluationData, evaluated: Sequence[Row]) -> PandasDataset:
    return from_pandas(
        pd.DataFrame([{"question": row.question, "answer": row.answer} for row in evaluated]),
        source=_source(data),
        name=data.name,
        digest=rows.digest(evaluated),
        targets="answer",
    )


def _source(data: EvaluationData) -> str | DatasetSource:
    """Return the source of the rows in MLflow's terms."""
    if (dataset := data.dataset) is None:
        return str(data.traces.rows if data.traces else data.data)
    return HuggingFaceDatasetSource(
        str(dataset.id), data_files=dataset.file, split="train", revision=dataset.revision
    )


def _evaluate_with_mlflow(
    model_id: str | None, table: pd.DataFrame, dataset: PandasDataset, metrics: Sequence[Metric]
) -> dict[str, float]:
    """Return the metrics of an answer table, as `mlflow.models.evaluate` computes them."""
    predictions = from_pandas(
        table,
        source=dataset.source,
        targets="answer",
        name=dataset.name,
        digest=dataset.digest,  # that of the rows, so that MLflow sees one dataset for all models
        predictions="prediction",
    )
    result = mlflow.models.evaluate(
        data=predictions,
        model_id=model_id,
        extra_metrics=[metric.to_mlflow(table) for metric in metrics],
    )
    return dict(result.metrics)
