"""What a batch's run tells: rows, failures, speed, the input as a dataset, and the model."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import LoggedModelInput

from slmflow.batch.job import Job
from slmflow.batch.requests import Answered
from slmflow.console import messages
from slmflow.datasets.rows import DIGEST_CHARACTERS

OUTPUT = "slmflow.output"

_MOST_REASONS = 20


@dataclass
class Tally:
    """Counts of the answers that pass by."""

    rows: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def over(self, answers: Iterable[Answered]) -> Iterator[Answered]:
        """Pass the answers on, and count them."""
        for each in answers:
            self.rows += 1
            self.tokens += each.completion_tokens or 0
            if each.error is not None:
                self.reasons[each.error] += 1
            yield each

    @property
    def failed(self) -> int:
        """How many rows have no answer."""
        return self.reasons.total()


class _Rows(MetaDataset):
    """The input, of which MLflow is told the file, its digest and the number of rows."""

    def __init__(self, job: Job) -> None:
        source = resolve_dataset_source(str(job.source.file))
        super().__init__(source, name=job.source.file.stem, digest=job.digest[:DIGEST_CHARACTERS])
        self._count = job.source.rows

    @property
    def profile(self) -> dict[str, int]:
        """Return the number of rows."""
        return {"num_rows": self._count}

    def to_dict(self) -> dict[str, str]:
        """Return what MLflow keeps."""
        return {**super().to_dict(), "profile": json.dumps(self.profile)}


def log_given(job: Job, run_id: str) -> None:
    """Log what is answered, and by what, before that begins."""
    mlflow.set_tag(OUTPUT, str(job.output))
    with messages.quiet():
        mlflow.log_input(_Rows(job), context="inference")
    if job.model.model_id:
        MlflowClient().log_inputs(run_id, models=[LoggedModelInput(job.model.model_id)])


def log_done(job: Job, tally: Tally, answered_now: int, seconds: float) -> None:
    """Log and say what has come of it; rows that an earlier run had answered count for no speed."""
    mlflow.log_metrics(
        {
            "rows": tally.rows,
            "failed_rows": tally.failed,
            "completion_tokens": tally.tokens,
            "answered_earlier_rows": tally.rows - answered_now,
            "seconds": seconds,
            **({"rows_per_second": answered_now / seconds} if answered_now else {}),
        }
    )
    reasons = dict(tally.reasons.most_common(_MOST_REASONS))
    mlflow.log_dict({"output": str(job.output), "failed": reasons}, "batch.json")
    if tally.failed:
        often, _ = tally.reasons.most_common(1)[0]
        messages.warn(
            f"{tally.failed} of {tally.rows} rows have no answer, but an "
            f"{job.source.columns.error}, most often: {often}"
        )
    messages.say(f"{tally.rows} rows are in {job.output}")
