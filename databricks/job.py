"""What the Spark job of MLproject runs: an entry point of the project that was uploaded beside it.

The client puts lines of its own before these: they unpack the upload, go to its folder and name
the run. `job.py ENTRY_POINT --env_manager NAME --KEY VALUE ...`
"""

import os
import shlex
import sys
from pathlib import Path

import mlflow
import uv

run_id = os.environ["MLFLOW_RUN_ID"]
project = Path.cwd() / "slmflow"
if not project.is_dir():
    mlflow.MlflowClient().set_terminated(run_id, "FAILED")
    sys.exit(f"error: {project} is not there: submit with `make databricks-spark`, which adds it")
sys.path.insert(0, str(project))

import steps  # noqa: E402, F401 (says where on a driver files go)

# The client cuts the command at every blank, also inside of quotes.
entry_point, *given = shlex.split(" ".join(sys.argv[1:]))
parameters = {key[2:]: value for key, value in zip(given[::2], given[1::2], strict=True)}
os.environ["PATH"] = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), os.environ["PATH"]])
try:
    mlflow.projects.run(
        str(project),
        entry_point,
        env_manager=parameters.pop("env_manager"),
        parameters=parameters,
        run_id=run_id,
    )
except mlflow.exceptions.ExecutionException as failure:
    sys.exit(f"error: {failure}")
