"""Answer a file of rows with a logged model, here or on Spark.

mlflow run . -e batch --env-manager uv -P model_uri=models:/NAME@ALIAS -P input=FILE -P output=FILE
python -m steps.batch batch.input=rows.csv batch.output=answers.parquet spark.master=local[2]
"""

import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow

from slmflow.batch import in_process, input_rows, job, output, requests, run_log, spark
from slmflow.batch import partitions as parts
from slmflow.batch.job import Job
from slmflow.batch.partitions import Parts
from slmflow.batch.requests import Ask, Partition
from slmflow.config.schema.batch import Spark
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store
from slmflow.pipeline.step import Step, run_step


def batch(step: Step) -> None:
    """Answer the partitions that are not finished, keep each, and make the output of all."""
    given = job.check(step.config)
    run_log.log_given(given, step.run.info.run_id)
    kept = Parts(given.output, given.key, given.source.rows, given.partition_rows)
    with store.lock(f"batch-{given.key}"):
        output.refuse_existing(given.output)  # by one that was waited for
        begun = time.monotonic()
        missing = kept.begin()
        if missing:
            _answer(given, kept, missing, step.config.spark)
        seconds = time.monotonic() - begun
        _refuse_changed(given)
        tally = run_log.Tally()
        output.write(given.source, tally.over(kept.answers()), given.output, kept.folder / "output")
        kept.remove()
    run_log.log_done(given, tally, sum(kept.length(number) for number in missing), seconds)


def _answer(given: Job, kept: Parts, missing: list[int], settings: Spark) -> None:
    """Have the missing partitions answered, and keep each as it comes."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        _asking(given, settings, scratch) as ask,
        messages.counting() as progress,
    ):
        earlier = given.source.rows - sum(kept.length(number) for number in missing)
        task = progress.add_task("rows", total=given.source.rows, completed=earlier)
        partitions = _partitions(given, set(missing))
        for number, answered in requests.answer(partitions, given.interface, ask):
            kept.keep(number, answered)
            progress.advance(task, len(answered))


def _asking(given: Job, settings: Spark, scratch: str) -> AbstractContextManager[Ask]:
    with messages.working(f"fetching {given.model_uri}"), messages.quiet():
        folder = mlflow.artifacts.download_artifacts(given.model_uri, dst_path=scratch)
    model = Path(folder)
    return spark.asking(settings, model) if spark.wanted(settings) else in_process.asking(model)


def _partitions(given: Job, missing: Container[int]) -> Iterator[Partition]:
    records = given.source.records()
    for number, chunk in enumerate(parts.chunks(records, given.partition_rows)):
        if number in missing:
            asked = [input_rows.question(record, given.source.columns) for record in chunk]
            yield Partition(number, asked)


def _refuse_changed(given: Job) -> None:
    if store.sha256(given.source.file) != given.digest:
        raise UserError(
            f"{given.source.file} was changed while it was answered: start again for what it is now"
        )


if __name__ == "__main__":
    run_step("batch", batch)
