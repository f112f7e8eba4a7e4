"""Processes of our own: what they are started with, and why one ended."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import TextIO

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.databricks_utils import get_databricks_env_vars, is_in_databricks_runtime

from slmflow.paths import PROJECT


def environment(**further: str) -> dict[str, str]:
    """Return the environment in which a child finds the project, wherever it is called from."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        "HF_HUB_OFFLINE": "1",  # its model is whole on disk: there is nothing to ask the hub
        **_credentials(),
        **further,
    }


def _credentials() -> dict[str, str]:
    """Return the variables by which a child reaches the workspace whose runtime this process is in.

    There a process has its credentials from the kernel, which its children do not have.
    """
    if is_in_databricks_runtime():
        with contextlib.suppress(MlflowException):  # there are none to hand on
            return dict(get_databricks_env_vars(mlflow.get_tracking_uri()))
    return {}


def end_with_parent() -> None:
    """Have the system interrupt this process when its parent ends, in whichever way: on Linux.

    By SIGTERM, taken as the keyboard's: what a script starts in the background ignores SIGINT.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl.h
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def take_stdout() -> TextIO:
    """Return standard output for lines to the parent; what others print there goes to stderr."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def why_ended(status: int, log: str) -> str:
    """Return why a child ended with a status, from what it wrote to standard error."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", most likely because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with status {status}"
