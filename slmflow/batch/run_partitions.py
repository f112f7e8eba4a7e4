"""Answer the unfinished partitions of a batch job and store each as it finishes."""

import tempfile
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow

from slmflow.batch import in_process, input_rows, requests, spark
from slmflow.batch.job import BatchJob
from slmflow.batch.partitions import PartitionStore, split_into_chunks
from slmflow.batch.requests import Partition, Predict
from slmflow.config.schema.batch import Spark
from slmflow.console import library_output, progress_bars


def run_partitions(
    job: BatchJob, store: PartitionStore, unfinished: list[int], settings: Spark
) -> int:
    """Answer and store the unfinished partitions; return how many rows they have."""
    if not unfinished:
        return 0
    row_count = sum(store.rows_in(number) for number in unfinished)
    with (
        tempfile.TemporaryDirectory() as scratch,
        _open_predictor(job, settings, Path(scratch)) as predict,
        progress_bars.item_bar() as progress,
    ):
        total = job.input_file.row_count
        task = progress.add_task("rows", total=total, completed=total - row_count)
        partitions = _read_partitions(job, set(unfinished))
        for number, answers in requests.answer_partitions(partitions, job.interface, predict):
            store.write(number, answers)
            progress.advance(task, len(answers))
    return row_count


def _open_predictor(
    job: BatchJob, settings: Spark, scratch: Path
) -> AbstractContextManager[Predict]:
    with progress_bars.spinner(f"fetching {job.model_uri}"), library_output.silence():
        folder = mlflow.artifacts.download_artifacts(job.model_uri, dst_path=str(scratch))
    model = Path(folder)
    if spark.is_enabled(settings):
        return spark.open_predictor(settings, model)
    return in_process.open_predictor(model)


def _read_partitions(job: BatchJob, numbers: Container[int]) -> Iterator[Partition]:
    columns = job.input_file.columns
    chunks = split_into_chunks(job.input_file.records(), job.partition_rows)
    for number, records in enumerate(chunks):
        if number in numbers:
            rows = [input_rows.parse_messages(record, columns) for record in records]
            yield Partition(number, rows)
