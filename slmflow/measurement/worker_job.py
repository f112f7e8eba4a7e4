"""Start a worker module with a job, in a process of its own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import mlflow

from slmflow.errors import UserError
from slmflow.system import child_processes


@contextmanager
def start(
    module: Sequence[str], job: Mapping[str, Any] | None, *, stdin: int, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start `python MODULE [JOB]`, with standard error in a log; kill it on exit.

    module: the arguments that name it, such as ("-m", "slmflow.measurement.worker"); job: written
    to the file JOB, if any; stdin: PIPE or DEVNULL of subprocess; variables: of the environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments, log = [*module], Path(folder, "log")
        if job is not None:
            job_file = Path(folder, "job.json")
            job_file.write_text(json.dumps(job))
            arguments.append(str(job_file))
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
            TMPDIR=folder,  # a model downloaded from a remote server is deleted with this folder
            **variables,
        )
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
            ) as process,
        ):
            try:
                yield process, log
            finally:
                process.kill()


def raise_failure(subject: str, status: int, log: Path) -> NoReturn:
    """Raise UserError about the subject, with the reason why a worker ended."""
    text = log.read_text(errors="replace")
    reason = child_processes.describe_exit(status, text)
    raise UserError(f"{subject}: {reason}") from RuntimeError(text)
