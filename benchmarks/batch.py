"""Measure a batch on Spark beside one in this process, on the same cores.

python -m benchmarks.batch --output docs/batch
python -m benchmarks.batch --shape tiny --rows 40 --rounds 1 --output trial

Writes SHAPE.md and SHAPE.json (every raw value) to the output folder. Nothing else should compute
meanwhile. Needs requirements-spark.txt. The model is the bundled one, or random weights, logged by
`python -m steps.log_genai` with a tracking database kept in the work folder; Spark has a worker for
each core. Starting Spark and loading the models is in no figure.
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

from benchmarks.harness.command_line import add_work_option, create_parser, run_main, use_store
from benchmarks.harness.paired_rounds import alternate
from benchmarks.models import logged_models, readable_weights
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page
from benchmarks.reports.batch_report import Report
from slmflow.batch import in_process, requests, spark
from slmflow.batch import partitions as parts
from slmflow.batch.input_rows import RowMessages
from slmflow.batch.requests import Partition, Predict, RowAnswer
from slmflow.config.schema.batch import Batch, Spark
from slmflow.errors import BadArguments
from slmflow.flavors import chat_interfaces
from slmflow.flavors.chat_interfaces import ChatInterface
from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel

BUNDLED = "tiny_phi3"
TARGET = "cpu_int4"

_QUESTIONS = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"


def measure(shape: str, rows: int, rounds: int) -> Report:
    """Log the model if that is not done yet, and measure. Raises UserError where that fails."""
    overrides = [f"target={TARGET}"]
    if shape != BUNDLED:
        overrides += [
            "model=local",
            f"model.path={readable_weights.readable_weights(shape)}",
            f"model.name={shape}",
        ]
    logged_models.ensure_logged(overrides)
    model_uri = logged_models.find_logged(GenaiModel, overrides)[0].model_uri
    partitions = list(_partitions(rows))
    interface = chat_interfaces.find_interface(Model.load(model_uri))
    settings = Spark(f"local[{os.cpu_count()}]")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=scratch))
        with (
            spark.open_predictor(settings, folder) as workers,
            in_process.open_predictor(folder) as here,
        ):
            timed = alternate(
                f"{rows} rows",
                lambda _: _timed(partitions, interface, workers),
                lambda _: _timed(partitions, interface, here),
                rounds,
            )
    on_spark, in_this = timed
    return Report(
        shape=shape,
        target=TARGET,
        master=str(settings.master),
        rows=rows,
        partition_rows=Batch().partition_rows,
        spark_s=tuple(seconds for seconds, _ in on_spark),
        in_process_s=tuple(seconds for seconds, _ in in_this),
        equal_rows=tuple(
            sum(one == other for one, other in zip(theirs, ours, strict=True))
            for (_, theirs), (_, ours) in zip(on_spark, in_this, strict=True)
        ),
    )


def _partitions(rows: int) -> Iterator[Partition]:
    """Yield the bundled questions, over and over."""
    texts = [json.loads(line)["question"] for line in _QUESTIONS.read_text().splitlines()]
    over = itertools.islice(itertools.cycle(texts), rows)
    asked = (RowMessages([{"role": "user", "content": text}]) for text in over)
    for number, chunk in enumerate(parts.split_into_chunks(asked, Batch().partition_rows)):
        yield Partition(number, chunk)


def _timed(
    partitions: Sequence[Partition], interface: ChatInterface, ask: Predict
) -> tuple[float, list[RowAnswer]]:
    """Return the seconds that all rows take, and their answers in order."""
    begun = time.perf_counter()
    found = dict(requests.answer_partitions(partitions, interface, ask))
    seconds = time.perf_counter() - begun
    return seconds, [each for number in sorted(found) for each in found[number]]


def main() -> None:
    """Measure what the command line says."""
    arguments = create_parser(__doc__)
    arguments.add_argument("--shape", choices=(BUNDLED, *SHAPES), default=BUNDLED)
    arguments.add_argument("--rows", type=int, default=2000, help="%(default)s")
    arguments.add_argument("--rounds", type=int, default=6, help="of timing (%(default)s)")
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_work_option(arguments)
    given = arguments.parse_args()
    if given.rows < 1 or given.rounds < 1:
        raise BadArguments("--rows and --rounds must be at least 1")
    output = given.output.absolute()
    use_store(given.work)
    if missing := spark.find_problem(Spark("local")):
        raise BadArguments(missing)
    with logged_models.use_tracking_folder(given.work.absolute() / "batch"):
        report = measure(given.shape, given.rows, given.rounds)
    page.write(report, output, report.shape)


if __name__ == "__main__":
    run_main(main)
