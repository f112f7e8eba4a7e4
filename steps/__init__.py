"""The steps of slmflow, one package per entry point of MLproject: `python -m steps.<name>`."""

import os

# The runtime and MLflow report usage to their makers unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
