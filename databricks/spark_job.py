"""Run an entry point of the project in a Spark job of databricks/MLproject.

`spark_job.py ENTRY_POINT --env_manager NAME --KEY VALUE ...`. MLflow's client inserts lines before
this, which unpack the upload, change to its folder and set the run. The project is beside this
file.
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
    sys.exit(f"error: {project} does not exist: submit with `make databricks-spark`, which adds it")
sys.path.insert(0, str(project))

import steps  # noqa: E402, F401 (sets where files go on a driver)

# The client splits the command at every blank, also inside quotes.
entry_point, *options = shlex.split(" ".join(sys.argv[1:]))
parameters = {key[2:]: value for key, value in zip(options[::2], options[1::2], strict=True)}
os.environ["PATH"] = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), os.environ["PATH"]])
try:
    mlflow.projects.run(
        str(project),
        entry_point,
        env_manager=parameters.pop("env_manager"),
        parameters=parameters,
        run_id=run_id,
    )
except mlflow.exceptions.ExecutionException as error:
    sys.exit(f"error: {error}")
