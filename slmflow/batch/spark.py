"""Run the model on Spark's workers with `mlflow.pyfunc.spark_udf`; each loads its own copy.

Each partition is a Spark job with one task, and jobs run concurrently from threads of this process,
which collects the results. The workers need the model's packages, but no file of slmflow.
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
from slmflow.batch.requests import NumberedTexts, Predict
from slmflow.config.schema.batch import Spark
from slmflow.console import library_output, progress_bars
from slmflow.errors import UserError

_JOB_TAG = "slmflow-batch"
_REPLY_COLUMN = "reply"
_SCHEMA = f"position long, {model_worker.REQUEST_COLUMN} string"

# The last line of a Python traceback.
_EXCEPTION_LINE = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b(: |$)")

# Used where the session does not report it: on Databricks' shared and serverless compute.
_DEFAULT_PARALLEL_TASKS = 16

# Make a local Spark reachable from this process only, and keep its messages off the terminal.
_LOCAL_SETTINGS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}


def is_enabled(settings: Spark) -> bool:
    """Return whether the job runs on Spark: with a master, or inside a Databricks runtime."""
    return settings.master is not None or is_in_databricks_runtime()


def find_problem(settings: Spark) -> str | None:
    """Return why Spark is unavailable, as far as is known without starting it, or None."""
    if not is_enabled(settings) or find_spec("pyspark") is not None:
        return None
    if settings.master is None:
        return (
            "inside a Databricks runtime a batch job runs on Spark, but this step's Python has no "
            "PySpark: run it with the cluster's Python, as the bundle's job `batch` does "
            "(docs/batch.md)"
        )
    return (
        f"spark.master={settings.master}: PySpark is not installed; run "
        "`uv pip install -r requirements-spark.txt` and use --env-manager local, or set "
        "spark.master=null to run the model in the step's own process"
    )


@contextmanager
def open_predictor(settings: Spark, model: Path) -> Iterator[Predict]:
    """Start Spark or use the active session; yield a function that runs the model on its workers.

    model: the folder of the MLflow model. Stops the session at the end if it was started here.
    Raises UserError if Spark cannot start.
    """
    with _open_session(settings) as session, tempfile.TemporaryDirectory() as scratch:
        folder = _save_worker_model(model, Path(scratch))
        predictor = _SparkPredictor(session, folder, int(session.conf.get("spark.task.cpus", "1")))
        try:
            yield predictor.predict
        except BaseException:
            _apply_job_tag(session.interruptTag)
            raise


@dataclass(frozen=True)
class _SparkPredictor:
    """A Spark session and the model for its workers.

    folder: the model as `_save_worker_model` saves it; cores: CPU cores of a task.
    """

    session: Any
    folder: Path
    cores: int

    def predict(self, partitions: Iterable[NumberedTexts]) -> Iterator[NumberedTexts]:
        """Run the partitions; queue as many as run concurrently.

        Raises UserError if Spark gives up on a partition.
        """
        udf = self._create_udf()
        parallel_tasks = self._parallel_tasks()
        remaining = iter(partitions)
        pool = ThreadPoolExecutor(2 * parallel_tasks)
        running: set[Future[NumberedTexts]] = set()
        try:
            while True:
                for number, requests in islice(remaining, 2 * parallel_tasks - len(running)):
                    running.add(pool.submit(self._predict_partition, udf, number, requests))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _predict_partition(self, udf: Any, number: int, requests: list[str]) -> NumberedTexts:
        """Run one partition as one Spark task; called in a thread."""
        if not requests:
            return number, []
        _apply_job_tag(self.session.addTag)
        numbered = list(enumerate(requests))
        frame = self.session.createDataFrame(numbered, _SCHEMA).coalesce(1)
        reply = udf(model_worker.REQUEST_COLUMN).alias(_REPLY_COLUMN)
        try:
            rows = frame.select("position", reply).collect()
        except Exception as error:
            message = f"Spark gave up on partition {number}: {_error_summary(error)}"
            raise UserError(message) from error
        replies = dict(rows)
        return number, [replies[position] for position, _ in numbered]

    def _create_udf(self) -> Any:
        # As many threads as a task has cores. Spark sets OMP_NUM_THREADS itself.
        environment = {"LOKY_MAX_CPU_COUNT": str(self.cores), "HF_HUB_OFFLINE": "1"}
        # Without env_manager the workers use the cluster's Python: MLflow builds no environment.
        with library_output.silence():
            return mlflow.pyfunc.spark_udf(
                self.session, str(self.folder), result_type="string", extra_env=environment
            )

    def _parallel_tasks(self) -> int:
        try:
            return max(1, int(self.session.sparkContext.defaultParallelism) // self.cores)
        except Exception:
            return _DEFAULT_PARALLEL_TASKS


def _apply_job_tag(method: Callable[[str], Any]) -> None:
    """Tag or interrupt this job's Spark jobs, where supported: Spark 3.5 needs Spark Connect."""
    with suppress(Exception):
        method(_JOB_TAG)


@contextmanager
def _open_session(settings: Spark) -> Iterator[Any]:
    """Yield the active Spark session, or a new one that is stopped at the end."""
    sql = importlib.import_module("pyspark.sql")
    active = sql.SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    sigint_handler = signal.getsignal(signal.SIGINT)
    builder = sql.SparkSession.builder.appName("slmflow batch")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    if settings.master is not None:
        builder = builder.master(settings.master)
        if settings.master.startswith("local"):
            # Spark's default is the first python3 on PATH, which suits other machines only.
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            for name, value in _LOCAL_SETTINGS.items():
                builder = builder.config(name, value)
    try:
        with progress_bars.spinner(f"starting Spark at {settings.master or 'Databricks'}"):
            session = builder.getOrCreate()
    except Exception as error:
        raise UserError(
            f"spark.master={settings.master}: Spark cannot be used: {_error_summary(error)}. It "
            "needs Java 17 or later (JAVA_HOME), and a master such as local[2] or spark://HOST:7077"
        ) from error
    finally:
        signal.signal(signal.SIGINT, sigint_handler)  # PySpark replaces the handler
    try:
        yield session
    finally:
        if not is_in_databricks_runtime():
            session.stop()


def _save_worker_model(model: Path, scratch: Path) -> Path:
    """Wrap the model in another that `model_worker` loads; return its folder.

    The name of the code contains its digest: a Spark worker may outlive a job, and must not run an
    older slmflow's code.
    """
    source = Path(model_worker.__file__).read_bytes()
    name = f"slmflow_model_worker_{hashlib.sha256(source).hexdigest()[:16]}"
    code = scratch / f"{name}.py"
    code.write_bytes(source)
    folder = scratch / "model"
    request = ColSpec("string", model_worker.REQUEST_COLUMN)
    with library_output.silence():
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=name,
            data_path=str(model),
            code_paths=[str(code)],
            signature=ModelSignature(Schema([request]), Schema([ColSpec("string")])),
            pip_requirements=_model_requirements(model),
        )
    return folder


def _model_requirements(model: Path) -> list[str]:
    file = model / "requirements.txt"
    return file.read_text().splitlines() if file.is_file() else []


def _error_summary(error: Exception) -> str:
    """Return the Python exception of the worker in a Spark error, or the error's first line."""
    message = str(error).partition("JVM stacktrace:")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    exceptions = [line for line in lines if _EXCEPTION_LINE.match(line)]
    return (exceptions[-1:] or lines or [type(error).__name__])[0].rstrip(".")[:500]
