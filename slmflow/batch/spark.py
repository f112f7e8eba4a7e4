"""Have Spark's workers answer, each with a model of its own, by `mlflow.pyfunc.spark_udf`.

A partition is a job of Spark's with one task: as many run at once as there is room for, and this
process keeps each when it is done. The workers need the model's packages, and no file of ours.
"""

import hashlib
import importlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema
from mlflow.utils.databricks_utils import is_in_databricks_runtime

from slmflow.batch import model_worker
from slmflow.batch.requests import Ask, Requests
from slmflow.config.schema.batch import Spark
from slmflow.console import messages
from slmflow.errors import UserError

_TAG = "slmflow-batch"
_REPLY = "reply"
_COLUMNS = f"position long, {model_worker.REQUEST} string"

# The last line of a traceback.
_RAISED = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b(: |$)")

# Where the session's own room cannot be asked for, as on Databricks' shared and serverless compute.
_ROOM = 16

# On this machine nothing but this process is to reach Spark, or to see its progress bar.
_LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}


def wanted(settings: Spark) -> bool:
    """Return whether Spark answers: where a master is given, and inside a Databricks runtime."""
    return settings.master is not None or is_in_databricks_runtime()


def problem(settings: Spark) -> str | None:
    """Return why Spark cannot be used, as far as that can be told without starting it."""
    if not wanted(settings) or find_spec("pyspark") is not None:
        return None
    if settings.master is None:
        return (
            "inside a Databricks runtime its Spark answers, and this step's Python has no PySpark: "
            "run it with the cluster's own, as the bundle's job `batch` does (docs/batch.md)"
        )
    return (
        f"spark.master={settings.master}: PySpark is not installed; run "
        "`uv pip install -r requirements-spark.txt` and use --env-manager local, or set "
        "spark.master=null to answer in the step's own process"
    )


@contextmanager
def asking(settings: Spark, model: Path) -> Iterator[Ask]:
    """Start Spark, or take the session that is there, and yield what asks its workers.

    model: the folder of the MLflow model. Raises UserError where Spark cannot be started. A session
    that was started here is stopped in the end.
    """
    with _session(settings) as spark, tempfile.TemporaryDirectory() as scratch:
        folder = _for_workers(model, Path(scratch))
        workers = _Workers(spark, folder, int(spark.conf.get("spark.task.cpus", "1")))
        try:
            yield workers.ask
        except BaseException:
            _tag(spark.interruptTag)
            raise


@dataclass(frozen=True)
class _Workers:
    """A session, the model as its workers load it, and how many cores each may use."""

    spark: Any
    folder: Path
    cores: int

    def ask(self, partitions: Iterable[Requests]) -> Iterator[tuple[int, list[str]]]:
        """Have as many partitions answered at once as there is room for, and as many wait.

        Raises UserError where Spark gives one up.
        """
        udf = self._udf()
        room = self._room()
        coming = iter(partitions)
        pool = ThreadPoolExecutor(2 * room)
        running: set[Future[tuple[int, list[str]]]] = set()
        try:
            while True:
                for each in islice(coming, 2 * room - len(running)):
                    running.add(pool.submit(self._answer, udf, each))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, udf: Any, requests: Requests) -> tuple[int, list[str]]:
        """Have one partition answered, as one task; called in a thread."""
        if not requests.texts:
            return requests.number, []
        _tag(self.spark.addTag)
        numbered = list(enumerate(requests.texts))
        asked = self.spark.createDataFrame(numbered, _COLUMNS).coalesce(1)
        try:
            rows = asked.select("position", udf(model_worker.REQUEST).alias(_REPLY)).collect()
        except Exception as error:
            raise UserError(
                f"Spark gave up partition {requests.number}: {_reason(error)}"
            ) from error
        replies = dict(rows)
        return requests.number, [replies[position] for position in range(len(requests.texts))]

    def _udf(self) -> Any:
        # As many threads as Spark has cores for a task; it sets OMP_NUM_THREADS itself.
        threads = {"LOKY_MAX_CPU_COUNT": str(self.cores), "HF_HUB_OFFLINE": "1"}
        with (
            messages.quiet()
        ):  # the workers have what the cluster has: no other environment is made
            return mlflow.pyfunc.spark_udf(
                self.spark, str(self.folder), result_type="string", extra_env=threads
            )

    def _room(self) -> int:
        """Return how many tasks run at once."""
        try:
            return max(1, int(self.spark.sparkContext.defaultParallelism) // self.cores)
        except Exception:
            return _ROOM


def _tag(tagged: Callable[[str], Any]) -> None:
    """Call what tags or interrupts jobs; Spark 3.5 knows that of Spark Connect only."""
    with suppress(Exception):
        tagged(_TAG)


@contextmanager
def _session(settings: Spark) -> Iterator[Any]:
    """Yield a session; one that was there before is left as it is."""
    sql = importlib.import_module("pyspark.sql")
    there = sql.SparkSession.getActiveSession()
    if there is not None:
        yield there
        return
    interrupted = signal.getsignal(signal.SIGINT)
    builder = sql.SparkSession.builder.appName("slmflow batch")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    if settings.master is not None:
        builder = builder.master(settings.master)
        if settings.master.startswith("local"):
            # Spark would take the first python3 of PATH, and on another machine that is right.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            for name, value in _LOCAL.items():
                builder = builder.config(name, value)
    try:
        with messages.working(f"starting Spark at {settings.master or 'Databricks'}"):
            spark = builder.getOrCreate()
    except Exception as error:
        raise UserError(
            f"spark.master={settings.master}: Spark cannot be used: {_reason(error)}. It needs "
            "Java 17 or later (JAVA_HOME), and a master such as local[2] or spark://HOST:7077"
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupted)  # PySpark takes it for itself
    try:
        yield spark
    finally:
        if not is_in_databricks_runtime():
            spark.stop()


def _for_workers(model: Path, scratch: Path) -> Path:
    """Save the model anew, in the hands of `answerer`; return its folder.

    The code has a name made of its content: a worker of Spark's may outlive a job, and must not
    answer for another slmflow.
    """
    source = Path(model_worker.__file__).read_bytes()
    name = f"slmflow_answerer_{hashlib.sha256(source).hexdigest()[:16]}"
    code = scratch / f"{name}.py"
    code.write_bytes(source)
    folder = scratch / "model"
    text = ColSpec("string", model_worker.REQUEST)
    with messages.quiet():
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=name,
            data_path=str(model),
            code_paths=[str(code)],
            signature=ModelSignature(Schema([text]), Schema([ColSpec("string")])),
            pip_requirements=_requirements(model),
        )
    return folder


def _requirements(model: Path) -> list[str]:
    """Return what the model itself says that it needs."""
    file = model / "requirements.txt"
    return file.read_text().splitlines() if file.is_file() else []


def _reason(error: Exception) -> str:
    """Return of an error of Spark's what its Python worker raised, else its first line."""
    said = str(error).partition("JVM stacktrace:")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised[-1:] or lines or [type(error).__name__])[0].rstrip(".")[:500]
