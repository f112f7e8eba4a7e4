"""How a step's fault is told: once, to the user and to its MLflow run."""

import os
import signal
from contextlib import suppress

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import runs, tracking_errors

INTERRUPTED = 130
"""The exit status of a step that is interrupted."""


def report_failure(fault: BaseException, run_id: str | None) -> int:
    """Tell the user and the run why the step ends; return the exit status."""
    if isinstance(fault, KeyboardInterrupt):
        # A second signal, such as MLflow's to the step it cancels, must not end the telling.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tracking_errors.limit_retries(1)
    expected = isinstance(fault, UserError | KeyboardInterrupt)
    message = "interrupted" if isinstance(fault, KeyboardInterrupt) else str(fault)
    if not expected or os.environ.get("SLMFLOW_DEBUG") == "1":
        messages.traceback()
        message = message if expected else f"{type(fault).__name__}: {message}"
    if not (isinstance(fault, UserError) and fault.shown):
        messages.error(message)
    if run_id is not None:
        with suppress(MlflowException, SQLAlchemyError):  # the message may be that it is away
            runs.tag_error(run_id, message)
    if isinstance(fault, UserError):
        return fault.exit_code
    return INTERRUPTED if isinstance(fault, KeyboardInterrupt) else 1
