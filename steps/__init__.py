"""The steps of slmflow, one package per entry point of MLproject: `python -m steps.<name>`."""

import os

# Read when the libraries are imported. The runtime and MLflow report usage to their makers unless
# told not to; MLflow draws a bar for every file it copies, in among the steps' own.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
