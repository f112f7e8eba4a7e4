"""Compare models: quality through `mlflow.models.evaluate`, one child run for each model.

In the child run, and on the model itself, the figures have the names of the comparison's columns,
so MLflow can set flavors, targets and models side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource
from mlflow.data.pandas_dataset import PandasDataset, from_pandas

from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.console import messages
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.measurement.records import Measurement
from slmflow.metrics import answer_table as tables
from slmflow.metrics.evaluation_inputs import EvaluationInputs
from slmflow.metrics.model_metrics import ModelMetrics, UserMetricInfo
from slmflow.metrics.performance import compute_performance
from slmflow.metrics.scoring import METRICS, Metric, estimate_uncertainty, mean_metric
from slmflow.metrics.user_metrics import UserMetric


@dataclass(frozen=True)
class EvaluatedModel:
    """A model's figures, the table they are computed from, worst first, and the run of both."""

    figures: ModelMetrics
    table: pd.DataFrame
    run_id: str


def evaluate_models(
    config: Config, given: EvaluationInputs, measured: Sequence[Measurement], tokenizer: Path | None
) -> tuple[EvaluatedModel, ...]:
    """Return what is to be said of each model; the first one is the reference of the others.

    Logs the rows as a dataset of the active run, with a digest of all that is asked. What each
    model answered to each row (`eval_results_table.json`) and its figures go to a child run named
    after it. tokenizer: the tokenizer.json of all, None for one alone. Raises UserError where a
    metric of the user's cannot score an answer.
    """
    further = {own: mean_metric(own.name, own.score, share=own.share) for own in given.metrics}
    reference = tables.build(measured[0], given.rows)
    with messages.quiet():
        dataset = _dataset(config.evaluation, given.rows)
        mlflow.log_input(dataset, context="evaluation")
        compared = [_scored(config, measured[0], reference, None, dataset, further)]
        for other in measured[1:]:
            table = tables.add_reference(
                tables.build(other, given.rows), reference, Path(str(tokenizer))
            )
            compared.append(_scored(config, other, table, reference, dataset, further))
    return tuple(compared)


def _scored(
    config: Config,
    measurement: Measurement,
    table: pd.DataFrame,
    reference: pd.DataFrame | None,
    dataset: PandasDataset,
    further: Mapping[UserMetric, Metric],
) -> EvaluatedModel:
    """Score a model's table in a child run."""
    all_metrics = (*METRICS, *further.values())
    metrics = [metric for metric in all_metrics if metric.measured(table)]
    # First, as a fault in a metric of the user's has its own message here, not in MLflow.
    sure = estimate_uncertainty(metrics, table, reference)
    if reference is not None:
        table = tables.sort_by_regression(table, reference)
    model = measurement.model
    cost = compute_performance(measurement)
    made_here = config.evaluation.model_uri is None
    with mlflow.start_run(run_name=model.flavor, nested=True) as run:
        quality = _evaluate(model.model_id or None, table, dataset, metrics)
        figures = ModelMetrics(
            flavor=model.flavor,
            target=config.target.name if made_here else None,
            exporter=config.exporter.name.value if made_here else None,
            model_uri=model.model_uri,
            n=len(table),
            **{metric.name: quality.get(metric.name) for metric in METRICS},
            **cost.figures,
            further={own.name: quality[own.name] for own in further},
            own={own.name: UserMetricInfo(own.meaning, own.share) for own in further},
            intervals=sure.intervals | cost.intervals,
            p_values=sure.p_values,
        )
        others = {k: v for k, v in figures.measured().items() if k not in quality}
        mlflow.log_metrics(others, model_id=model.model_id or None, dataset=dataset)
    return EvaluatedModel(figures, table, run.info.run_id)


def _dataset(data: EvaluationData, asked: Sequence[Row]) -> PandasDataset:
    return from_pandas(
        pd.DataFrame([{"question": row.question, "answer": row.answer} for row in asked]),
        source=_source(data),
        name=data.name,
        digest=rows.digest(asked),
        targets="answer",
    )


def _source(data: EvaluationData) -> str | DatasetSource:
    """Return where the rows come from, in MLflow's terms."""
    if (dataset := data.dataset) is None:
        return str(data.data)
    return HuggingFaceDatasetSource(
        str(dataset.id), data_files=dataset.file, split="train", revision=dataset.revision
    )


def _evaluate(
    model_id: str | None, table: pd.DataFrame, dataset: PandasDataset, metrics: Sequence[Metric]
) -> dict[str, float]:
    """Return the metrics of a table of `answer` and `prediction`, and what else they read."""
    predicted = from_pandas(
        table,
        source=dataset.source,
        targets="answer",
        name=dataset.name,
        digest=dataset.digest,  # the rows' own: to MLflow all models answer the same data
        predictions="prediction",
    )
    evaluated = mlflow.models.evaluate(
        data=predicted,
        model_id=model_id,
        extra_metrics=[metric.mlflow() for metric in metrics],
    )
    return dict(evaluated.metrics)
