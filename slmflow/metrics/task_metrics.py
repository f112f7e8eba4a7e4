"""Evaluate measured tasks of lm-evaluation-harness: their metrics are columns like the user's own.

The harness's values are kept. Intervals, p-values and differences come from the scores of the rows,
by the same methods as those of other metrics.
"""

import dataclasses
import math
from collections.abc import Sequence

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import PandasDataset, from_pandas

from slmflow.config.schema.config import Config
from slmflow.console import library_output
from slmflow.datasets.rows import DIGEST_LENGTH
from slmflow.measurement.harness.task_records import NO_FILTER, TaskMetric, TaskResults
from slmflow.measurement.records import Measurement
from slmflow.metrics import uncertainty
from slmflow.metrics.evaluate_models import EvaluatedModel, child_name, describe_model, judge
from slmflow.metrics.model_metrics import SHARE, SUFFIXES, MetricColumn, ModelMetrics
from slmflow.metrics.performance import to_megabytes
from slmflow.metrics.scoring import Uncertainty
from slmflow.metrics.uncertainty import Aggregate
from slmflow.pipeline.results import OnnxModel

# The harness's aggregations of the sums of scores and weights; others are the mean.
_AGGREGATES: dict[str, Aggregate] = {
    "perplexity": lambda sums: np.exp(-uncertainty.mean(sums)),
    "weighted_perplexity": lambda sums: np.exp(-uncertainty.mean(sums)),
    "bits_per_byte": lambda sums: -uncertainty.mean(sums) / math.log(2),
}


def evaluate_tasks(
    config: Config, measurements: Sequence[Measurement], onnx: OnnxModel | None = None
) -> tuple[EvaluatedModel, ...]:
    """Evaluate each model's tasks; the first model is the reference of the others.

    Logs the tasks as a dataset of the active run, and each model's metrics to a child run named
    after the model. onnx: of the converted model, if any.
    """
    results = [_results(measurement) for measurement in measurements]
    with library_output.silence():
        dataset = _dataset(results[0])
        mlflow.log_input(dataset, context="evaluation")
        return tuple(
            _evaluate(config, measurement, None if index == 0 else results[0], dataset, onnx)
            for index, measurement in enumerate(measurements)
        )


def _results(measurement: Measurement) -> TaskResults:
    if measurement.tasks is None:
        raise ValueError(f"{measurement.model.model_uri} ran no tasks")
    return measurement.tasks


def _evaluate(
    config: Config,
    measurement: Measurement,
    reference: TaskResults | None,
    dataset: PandasDataset,
    onnx: OnnxModel | None,
) -> EvaluatedModel:
    model, results = measurement.model, _results(measurement)
    estimated = _estimate_uncertainty(results, reference)
    metrics = ModelMetrics(
        **describe_model(model, config, onnx),
        n=results.row_count,
        model_size_mb=to_megabytes(model.size_bytes),
        user_metrics={metric.column.name: metric.value for metric in results.metrics},
        user_columns={metric.column.name: _describe(metric) for metric in results.metrics},
        intervals=estimated.intervals,
        p_values=estimated.p_values,
        differences=estimated.differences,
    )
    metrics = dataclasses.replace(metrics, verdict=judge(config, metrics))
    with mlflow.start_run(run_name=child_name(config, model), nested=True) as run:
        mlflow.log_metrics(metrics.measured(), model_id=model.model_id or None, dataset=dataset)
    return EvaluatedModel(metrics, pd.DataFrame(), run.info.run_id)


def _estimate_uncertainty(results: TaskResults, reference: TaskResults | None) -> Uncertainty:
    theirs = {each.column.name: each for each in reference.metrics} if reference else {}
    estimated = Uncertainty({}, {}, {})
    for metric in results.metrics:
        if not metric.rows:
            continue
        name, rows, is_share = metric.column.name, np.array(metric.rows), _is_share(metric)
        aggregate = _AGGREGATES.get(metric.column.aggregation, uncertainty.mean)
        if interval := uncertainty.confidence_interval(rows, aggregate, is_share=is_share):
            estimated.intervals[name] = interval
        other = theirs.get(name)
        if other is None or len(other.rows) != len(rows):
            continue
        reference_rows = np.array(other.rows)
        estimated.p_values[name] = uncertainty.paired_p_value(rows, reference_rows, aggregate)
        is_share = is_share and _is_share(other)
        difference = uncertainty.paired_difference(
            rows, reference_rows, aggregate, is_share=is_share, is_ratio=False
        )
        if difference is not None:
            estimated.differences[name] = difference
    return estimated


def _is_share(metric: TaskMetric) -> bool:
    """Return whether the metric is a mean of scores from 0 to 1."""
    is_mean = metric.column.aggregation not in _AGGREGATES
    return is_mean and bool(metric.rows) and all(0 <= s <= w for s, w in metric.rows)


def _describe(metric: TaskMetric) -> MetricColumn:
    column = metric.column
    extracted = f" after the filter {column.filter}" if column.filter != NO_FILTER else ""
    meaning = f"{column.metric} of the task {column.task}{extracted}, {column.shots}-shot"
    number_format = SHARE if _is_share(metric) else "{:,.4g}"
    return MetricColumn(meaning, number_format, SUFFIXES, column.higher_is_better)


def _dataset(results: TaskResults) -> PandasDataset:
    """Return the tasks as MLflow's dataset; its digest is that of their rows."""
    tasks = list(dict.fromkeys(metric.column.task for metric in results.metrics))
    return from_pandas(
        pd.DataFrame({"task": tasks}),
        source="lm-evaluation-harness",
        name="lm_eval",
        digest=results.digest[:DIGEST_LENGTH],
    )
