"""The entry points of MLproject, one module each: `python -m steps.<name>`."""

import os
import sys
from types import TracebackType

from slmflow.system import databricks

# Libraries read these when they are imported. No usage is reported to the makers of the runtime, of
# MLflow and of the hub; MLflow shows no progress bar for every file it copies, and no links to each
# run: the first step prints that of its own at the end.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
databricks.set_default_environment(os.environ)

# Wait half a minute for an unavailable tracking server: MLflow's default, seven retries, takes more
# than four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")


def _show_uncaught(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Show an uncaught exception, except Ctrl-C during imports, which MLflow reports itself."""
    if not issubclass(error_type, KeyboardInterrupt):
        sys.__excepthook__(error_type, error, trace)


sys.excepthook = _show_uncaught
