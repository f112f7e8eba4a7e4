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

from steps.batch import answers, in_process, job, output, parts, report, source, spark
from steps.batch.answers import Ask, Partition
from steps.batch.job import Job
from steps.batch.parts import Parts
from steps.common import console, store
from steps.common.errors import UserError
from steps.common.schema.batch import Spark
from steps.common.step import Step, run_step


def batch(step: Step) -> None:
    """Answer the partitions that are not finished, keep each, and make the output of all."""
    given = job.check(step.config)
    report.log_given(given, step.run.info.run_id)
    kept = Parts(given.output, given.key, given.source.rows, given.partition_rows)
    with store.lock(f"batch-{given.key}"):
        output.refuse_existing(given.output)  # by one that was waited for
        begun = time.monotonic()
        missing = kept.begin()
        if missing:
            _answer(given, kept, missing, step.config.spark)
        seconds = time.monotonic() - begun
        _refuse_changed(given)
        tally = report.Tally()
        output.write(given.source, tally.over(kept.answers()), given.output, kept.folder / "output")
        kept.remove()
    report.log_done(given, tally, sum(kept.length(number) for number in missing), seconds)


def _answer(given: Job, kept: Parts, missing: list[int], settings: Spark) -> None:
    """Have the missing partitions answered, and keep each as it comes."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        _asking(given, settings, scratch) as ask,
        console.counting() as progress,
    ):
        earlier = given.source.rows - sum(kept.length(number) for number in missing)
        task = progress.add_task("rows", total=given.source.rows, completed=earlier)
        partitions = _partitions(given, set(missing))
        for number, answered in answers.answer(partitions, given.interface, ask):
            kept.keep(number, answered)
            progress.advance(task, len(answered))


def _asking(given: Job, settings: Spark, scratch: str) -> AbstractContextManager[Ask]:
    with console.working(f"fetching {given.model_uri}"), console.quiet():
        folder = mlflow.artifacts.download_artifacts(given.model_uri, dst_path=scratch)
    model = Path(folder)
    return spark.asking(settings, model) if spark.wanted(settings) else in_process.asking(model)


def _partitions(given: Job, missing: Container[int]) -> Iterator[Partition]:
    records = given.source.records()
    for number, chunk in enumerate(parts.chunks(records, given.partition_rows)):
        if number in missing:
            asked = [source.question(record, given.source.columns) for record in chunk]
            yield Partition(number, asked)


def _refuse_changed(given: Job) -> None:
    if store.sha256(given.source.file) != given.digest:
        raise UserError(
            f"{given.source.file} was changed while it was answered: start again for what it is now"
        )


if __name__ == "__main__":
    run_step("batch", batch)
