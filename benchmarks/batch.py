"""Compare batch jobs on Spark and in one process, on the same cores.

python -m benchmarks.batch --output docs/batch
python -m benchmarks.batch --shape tiny --rows 40 --rounds 1 --output trial

Writes SHAPE.md and SHAPE.json (all raw values) to the output folder. Run it on an otherwise idle
machine, with requirements-spark.txt installed. The model is the bundled one, or one with random
weights. `python -m steps.log_genai` logs it, with a tracking database in the work folder. Spark has
one worker per core. The times exclude starting Spark and loading the models.
"""

import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow
from mlflow.models import Model

from benchmarks.harness.command_line import (
    add_rounds_and_output,
    at_least,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.paired_rounds import alternate
from benchmarks.models import logged_models, readable_weights
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page
from benchmarks.reports.batch_report import Report
from slmflow.batch import in_process, requests, spark
from slmflow.batch.input_rows import RowMessages
from slmflow.batch.partitions import split_into_chunks
from slmflow.batch.requests import Partition, Predict, RowAnswer
from slmflow.config.schema.batch import Batch, Spark
from slmflow.errors import BadArguments
from slmflow.flavors import chat_interfaces
from slmflow.flavors.chat_interfaces import ChatInterface
from slmflow.paths import PROJECT

BUNDLED = "tiny_phi3"
TARGET = "cpu_int4"

_QUESTIONS = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"


def measure(shape: str, rows: int, rounds: int) -> Report:
    """Log the model unless it is logged already, and measure. Raises UserError if that fails."""
    model = [] if shape == BUNDLED else readable_weights.model_overrides(shape)
    model_uri = logged_models.ensure_logged([f"target={TARGET}", *model]).model_uri
    partitions = list(_partitions(rows))
    interface = chat_interfaces.find_interface(Model.load(model_uri))
    settings = Spark(f"local[{os.cpu_count()}]")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=scratch))
        with (
            spark.open_predictor(settings, folder) as predict_on_spark,
            in_process.open_predictor(folder) as predict_in_process,
        ):
            spark_results, in_process_results = alternate(
                f"{rows} rows",
                lambda _: _time(partitions, interface, predict_on_spark),
                lambda _: _time(partitions, interface, predict_in_process),
                rounds,
            )
    return Report(
        shape=shape,
        target=TARGET,
        master=str(settings.master),
        rows=rows,
        partition_rows=Batch().partition_rows,
        spark_s=tuple(seconds for seconds, _ in spark_results),
        in_process_s=tuple(seconds for seconds, _ in in_process_results),
        equal_rows=tuple(
            sum(one == other for one, other in zip(answers, expected, strict=True))
            for (_, answers), (_, expected) in zip(spark_results, in_process_results, strict=True)
        ),
    )


def _partitions(rows: int) -> Iterator[Partition]:
    """Yield partitions of the bundled questions, repeated until there are enough rows."""
    texts = [json.loads(line)["question"] for line in _QUESTIONS.read_text().splitlines()]
    repeated = itertools.islice(itertools.cycle(texts), rows)
    messages = (RowMessages([{"role": "user", "content": text}]) for text in repeated)
    for number, chunk in enumerate(split_into_chunks(messages, Batch().partition_rows)):
        yield Partition(number, chunk)


def _time(
    partitions: Sequence[Partition], interface: ChatInterface, predict: Predict
) -> tuple[float, list[RowAnswer]]:
    """Return the seconds for all rows, and their answers in order."""
    started = time.perf_counter()
    answers = dict(requests.answer_partitions(partitions, interface, predict))
    seconds = time.perf_counter() - started
    return seconds, [answer for number in sorted(answers) for answer in answers[number]]


def main() -> None:
    """Run the benchmark."""
    parser = create_parser(__doc__)
    parser.add_argument("--shape", choices=(BUNDLED, *SHAPES), default=BUNDLED)
    parser.add_argument(
        "--rows", type=at_least(1), default=2000, help="number of rows (%(default)s)"
    )
    add_rounds_and_output(parser, rounds=6)
    arguments = parse_with_store(parser)
    if problem := spark.find_problem(Spark("local")):
        raise BadArguments(problem)
    with logged_models.use_tracking_folder(arguments.work / "batch"):
        report = measure(arguments.shape, arguments.rows, arguments.rounds)
    page.write(report, arguments.output, report.shape)


if __name__ == "__main__":
    run_main(main)
