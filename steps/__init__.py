"""The steps of slmflow, one package per entry point of MLproject: `python -m steps.<name>`."""

import os
import sys
from types import TracebackType

from slmflow.system import databricks

# Read when the libraries are imported. The runtime and MLflow report usage to their makers unless
# told not to; MLflow draws a bar for every file it copies, in among the steps' own.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
databricks.set_default_environment(os.environ)

# A tracking server that is away gets half a minute to come back; MLflow's own seven tries are more
# than four.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")


def _show_uncaught(
    kind: type[BaseException], fault: BaseException, trace: TracebackType | None
) -> None:
    """Show what nobody caught, but for Ctrl-C while a step still imports: MLflow says enough."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, fault, trace)


sys.excepthook = _show_uncaught
