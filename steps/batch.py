"""Answer a file of rows with a logged model, in this process or on Spark.

mlflow run . -e batch --env-manager uv -P model_uri=models:/NAME@ALIAS -P input=FILE -P output=FILE
python -m steps.batch batch.input=rows.csv batch.output=answers.parquet spark.master=local[2]
"""

import time

from slmflow.batch import output, remote_files, run_log
from slmflow.batch.job import prepare_job
from slmflow.batch.partitions import PartitionStore
from slmflow.batch.run_partitions import run_partitions
from slmflow.pipeline import store
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def batch(step: Step) -> None:
    """Answer the partitions that are not finished, store each, and write the output of all."""
    job = prepare_job(step.config)
    run_log.log_inputs(job, step.run.info.run_id)
    rows = job.input_file.row_count
    partitions = PartitionStore(job.output, job.key, rows, job.partition_rows)
    with store.lock(f"batch-{job.key}"):
        output.require_absent(job.output)  # a job that held the lock may have written it
        started = time.monotonic()
        unfinished = partitions.prepare()
        answered_now = run_partitions(job, partitions, unfinished, step.config.spark)
        seconds = time.monotonic() - started
        job.check_input_unchanged()
        counts = run_log.AnswerCounts()
        answers = counts.count(partitions.read_answers())
        output.write(job.input_file, answers, job.output, partitions.folder / "output")
        if job.address != str(job.output):
            remote_files.upload(job.output, job.address)
        partitions.delete()
    run_log.log_results(job, counts, answered_now, seconds)


if __name__ == "__main__":
    run_step("batch", batch)
