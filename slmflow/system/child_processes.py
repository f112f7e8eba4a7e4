"""Child processes: their environment, their end, and why they ended."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import TextIO

from slmflow.paths import PROJECT


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which a child finds the project from any working folder."""
    return {
        **os.environ,
        "PYTHONPATH": python_path(),
        "HF_HUB_OFFLINE": "1",  # the model is complete on disk
        **_databricks_credentials(),
        **extra,
    }


def python_path() -> str:
    """Return the value of PYTHONPATH with which a child finds the project."""
    return os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])


def _databricks_credentials() -> dict[str, str]:
    """Return the variables with which a child logs in to the workspace, if on Databricks.

    The kernel gives credentials to this process, but not to its children.
    """
    # Not at the top: the process of a proof needs no MLflow, which takes seconds to import.
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.utils.databricks_utils import get_databricks_env_vars, is_in_databricks_runtime

    if is_in_databricks_runtime():
        with contextlib.suppress(MlflowException):  # no credentials
            return dict(get_databricks_env_vars(mlflow.get_tracking_uri()))
    return {}


def terminate_with_parent() -> None:
    """Interrupt this process when its parent ends for any reason; on Linux only.

    By SIGTERM, handled like Ctrl-C: background jobs of a shell script ignore SIGINT.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # of prctl.h
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def claim_stdout() -> TextIO:
    """Return standard output for messages to the parent; other output then goes to stderr."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return stdout


def describe_exit(status: int, log: str) -> str:
    """Return why a child ended, from its exit status and its standard error."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", probably because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with status {status}"
