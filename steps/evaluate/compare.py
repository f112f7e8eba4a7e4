"""Compare the flavors: quality through `mlflow.models.evaluate`, one child run for each flavor.

In the child run, and on the model itself, the figures have the names of the comparison's columns,
so MLflow can set flavors, targets and models side by side.
"""

import dataclasses
from collections.abc import Sequence

import mlflow
import pandas as pd
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.huggingface_dataset_source import HuggingFaceDatasetSource
from mlflow.data.pandas_dataset import PandasDataset, from_pandas

from steps.common import console
from steps.common import rows as asked
from steps.common.config import Config
from steps.common.results import LoggedModel
from steps.common.rows import Row
from steps.common.schema.evaluation import EvaluationData
from steps.common.user_metrics import UserMetric
from steps.evaluate.figures import FlavorFigures
from steps.evaluate.measurement import Measurement, percentile, scaled
from steps.evaluate.metrics import first_diverging_word
from steps.evaluate.scoring import AGAINST_ANSWER, AGAINST_REFERENCE, Metric, mean_of, uncertain


def compare(
    config: Config,
    rows: Sequence[Row],
    measured: Sequence[tuple[LoggedModel, Measurement]],
    further: Sequence[UserMetric] = (),
) -> tuple[FlavorFigures, ...]:
    """Return the figures of each flavor; the first one is the reference of the others.

    Logs the rows as a dataset of the active run, with a digest of all that is asked. What each
    flavor answered to each row (`eval_results_table.json`) and its figures go to a child run named
    after it. `further` are metrics of the user's; raises UserError where one of them cannot score
    an answer.
    """
    questions = pd.DataFrame([{"question": row.question, "answer": row.answer} for row in rows])
    expected = [row.answer for row in rows]
    reference = [answer.text for answer in measured[0][1].answers]
    against_answer = [*AGAINST_ANSWER, *(mean_of(metric.name, metric.score) for metric in further)]
    figures = []
    with console.quiet():
        dataset = from_pandas(
            questions,
            source=_source(config.evaluation),
            name=config.evaluation.name,
            digest=asked.digest(rows),
            targets="answer",
        )
        mlflow.log_input(dataset, context="evaluation")
        for position, (model, measurement) in enumerate(measured):
            answers = pd.DataFrame([dataclasses.asdict(answer) for answer in measurement.answers])
            table = questions.join(answers.rename(columns={"text": "prediction"}))
            metrics = list(against_answer)
            if position:
                table["reference"] = reference
                words = map(first_diverging_word, answers["text"], reference)
                table["first_diverging_word"] = pd.array(list(words), dtype="Int64")
                metrics += AGAINST_REFERENCE
            # First, as a fault in a metric of the user's has its own message here, not in MLflow.
            sure = uncertain(
                metrics, list(answers["text"]), expected, reference if position else None
            )
            with mlflow.start_run(run_name=model.flavor, nested=True):
                quality = _evaluate(model, table, dataset, metrics)
                row = _figures(config, model, measurement, quality)
                row = dataclasses.replace(
                    row,
                    further={metric.name: quality[metric.name] for metric in further},
                    intervals=sure.intervals,
                    p_values=sure.p_values,
                )
                others = {k: v for k, v in row.measured().items() if k not in quality}
                mlflow.log_metrics(others, model_id=model.model_id, dataset=dataset)
            figures.append(row)
    return tuple(figures)


def _source(data: EvaluationData) -> str | DatasetSource:
    """Return where the rows come from, in MLflow's terms."""
    if (dataset := data.dataset) is None:
        return str(data.data)
    return HuggingFaceDatasetSource(
        str(dataset.id), data_files=dataset.file, split="train", revision=dataset.revision
    )


def _evaluate(
    model: LoggedModel, table: pd.DataFrame, dataset: PandasDataset, metrics: Sequence[Metric]
) -> dict[str, float]:
    """Return the metrics of a table of `answer` and `prediction`, and `reference` if it has one."""
    predicted = from_pandas(
        table,
        source=dataset.source,
        targets="answer",
        name=dataset.name,
        digest=dataset.digest,  # the rows' own: to MLflow both flavors answer the same data
        predictions="prediction",
    )
    evaluated = mlflow.models.evaluate(
        data=predicted,
        model_id=model.model_id,
        extra_metrics=[metric.mlflow() for metric in metrics],
    )
    return dict(evaluated.metrics)


def _figures(
    config: Config, model: LoggedModel, measurement: Measurement, quality: dict[str, float]
) -> FlavorFigures:
    answers = measurement.answers
    return FlavorFigures(
        flavor=model.flavor,
        target=config.target.name,
        exporter=config.exporter.name.value,
        model_uri=model.model_uri,
        n=len(answers),
        exact_match=quality["exact_match"],
        contains=quality["contains"],
        token_f1=quality["token_f1"],
        rouge_l=quality["rouge_l"],
        bleu=quality["bleu"],
        agreement=quality.get("agreement"),
        shared_prefix=quality.get("shared_prefix"),
        perplexity=measurement.perplexity,
        ttft_ms_p50=scaled(percentile((a.first_token_s for a in answers), 50), 1e3),
        latency_ms_p50=scaled(percentile((a.latency_s for a in answers), 50), 1e3),
        latency_ms_p95=scaled(percentile((a.latency_s for a in answers), 95), 1e3),
        prefill_tokens_per_s=percentile((a.prefill_tokens_per_s for a in answers), 50),
        decode_tokens_per_s=percentile((a.decode_tokens_per_s for a in answers), 50),
        load_s=measurement.load_s,
        peak_rss_mb=scaled(measurement.peak_rss_bytes, 1e-6),
        model_size_mb=scaled(model.size_bytes, 1e-6),
    )
