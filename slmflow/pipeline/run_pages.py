"""The page of a run in the MLflow UI: its address, and the name that it shows."""

from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Run
from mlflow.utils.databricks_utils import get_workspace_url, is_in_databricks_notebook
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
from mlflow.utils.uri import is_databricks_uri

from slmflow.console import messages


def is_generated_name(name: str | None) -> bool:
    """Return whether MLflow made up the name of a run, such as `popular-elk-287`."""
    if not name:
        return True
    predicate, _, rest = name.partition("-")
    noun, _, number = rest.partition("-")
    return (
        predicate in _GENERATOR_PREDICATES
        and noun in _GENERATOR_NOUNS
        and number.isascii()
        and number.isdigit()
    )


def show_link(run: Run) -> None:
    """Print the address of a run, unless a run above it will, or there is no server.

    `mlflow run`, whose runs have an entry point, prints the address itself, and so do notebooks.
    """
    is_shown = MLFLOW_PROJECT_ENTRY_POINT in run.data.tags or is_in_databricks_notebook()
    if is_shown or MLFLOW_PARENT_RUN_ID in run.data.tags:
        return
    if (url := address(run)) is not None:
        messages.info(f"run in MLflow: {url}")


def address(run: Run) -> str | None:
    """Return the address of a run's page, without credentials; None without a server."""
    uri = mlflow.get_tracking_uri()
    page = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    if is_databricks_uri(uri):
        workspace = get_workspace_url()
        return workspace and f"{workspace.rstrip('/')}/ml/{page}"
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/#/{page}"
