"""Log a batch job to its MLflow run: counts, errors, speed, the input as a dataset, the model."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput

from slmflow.batch.job import BatchJob
from slmflow.batch.requests import RowAnswer
from slmflow.console import library_output, messages
from slmflow.datasets.rows import DIGEST_LENGTH

OUTPUT_TAG = "slmflow.output"

_MAX_LOGGED_ERRORS = 20


@dataclass
class AnswerCounts:
    """Counts over the answers of a job."""

    rows: int = 0
    tokens: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def count(self, answers: Iterable[RowAnswer]) -> Iterator[RowAnswer]:
        """Yield the answers unchanged while counting them."""
        for answer in answers:
            self.rows += 1
            self.tokens += answer.completion_tokens or 0
            if answer.error is not None:
                self.errors[answer.error] += 1
            yield answer

    @property
    def failed(self) -> int:
        """The number of rows without an answer."""
        return self.errors.total()


class _InputDataset(MetaDataset):
    """The input as an MLflow dataset: path, digest and number of rows, but no content."""

    def __init__(self, job: BatchJob) -> None:
        path = job.input_file.path
        source = resolve_dataset_source(str(path))
        super().__init__(source, name=path.stem, digest=job.input_digest[:DIGEST_LENGTH])
        self._row_count = job.input_file.row_count

    @property
    def profile(self) -> dict[str, int]:
        """Return the number of rows."""
        return {"num_rows": self._row_count}

    def to_dict(self) -> dict[str, str]:
        """Return the fields that MLflow stores."""
        return {**super().to_dict(), "profile": json.dumps(self.profile)}


def log_inputs(job: BatchJob, run_id: str) -> None:
    """Log the input file and the model."""
    mlflow.set_tag(OUTPUT_TAG, job.address)
    with library_output.silence():
        mlflow.log_input(_InputDataset(job), context="inference")
    if job.model.model_id:
        MlflowClient().log_inputs(run_id, models=[LoggedModelInput(job.model.model_id)])


def log_results(job: BatchJob, counts: AnswerCounts, answered_now: int, seconds: float) -> None:
    """Log and print the results.

    answered_now: rows that this run answered. The speed excludes rows of earlier runs.
    """
    mlflow.log_metrics(
        {
            "rows": counts.rows,
            "failed_rows": counts.failed,
            "completion_tokens": counts.tokens,
            "answered_earlier_rows": counts.rows - answered_now,
            "seconds": seconds,
            **({"rows_per_second": answered_now / seconds} if answered_now else {}),
        }
    )
    errors = dict(counts.errors.most_common(_MAX_LOGGED_ERRORS))
    mlflow.log_dict({"output": job.address, "failed": errors}, "batch.json")
    if counts.failed:
        messages.warning(
            f"{counts.failed} of {counts.rows} rows have no answer; see the column "
            f"{job.input_file.columns.error}. Most frequent error: {next(iter(errors))}"
        )
    messages.info(f"wrote {counts.rows} rows to {job.address}")
