"""Report the failure of a step to the user and to its MLflow run."""

import os
import signal
from contextlib import suppress

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import runs, tracking_errors

INTERRUPTED = 130
"""The exit status of an interrupted step."""


def report_failure(fault: BaseException, run_id: str | None) -> int:
    """Print why the step failed, add it to the run as a tag, and return the exit status."""
    is_interrupt = isinstance(fault, KeyboardInterrupt)
    if is_interrupt:
        # Ignore a second signal, such as MLflow's to the step that it cancels.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tracking_errors.limit_retries(1)
    is_expected = is_interrupt or isinstance(fault, UserError)
    message = "interrupted" if is_interrupt else str(fault)
    if not is_expected or os.environ.get("SLMFLOW_DEBUG") == "1":
        messages.traceback()
        message = message if is_expected else f"{type(fault).__name__}: {message}"
    if not (isinstance(fault, UserError) and fault.shown):
        messages.error(message)
    if run_id is not None:
        with suppress(MlflowException, SQLAlchemyError):  # the server may be the cause
            runs.tag_error(run_id, message)
    if isinstance(fault, UserError):
        return fault.exit_code
    return INTERRUPTED if is_interrupt else 1
