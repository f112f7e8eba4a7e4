"""What a run works on and what it makes: models and datasets, which the UI links on its page."""

from collections.abc import Iterable
from contextlib import suppress

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelInput, LoggedModelOutput
from mlflow.exceptions import MlflowException

FLAVOR_TAG = "slmflow.flavor"
"""Tag of a logged model: its flavor, which is its name in a comparison."""

_LOGGED_MODEL = "models:/m-"


def model_id(model_uri: str) -> str | None:
    """Return the id of a logged model, `m-...`, from its URI; None for any other URI."""
    if not model_uri.startswith(_LOGGED_MODEL):
        return None
    return model_uri.removeprefix("models:/").partition("/")[0]


def log_models_in(model_ids: Iterable[str | None]) -> None:
    """Log models that the active run works on; one of another server is left out."""
    run = mlflow.active_run()
    if run is not None and (known := list(_known(model_ids))):
        models = [LoggedModelInput(each) for each in known]
        MlflowClient().log_inputs(run.info.run_id, models=models)


def log_models_out(model_ids: Iterable[str | None]) -> None:
    """Log models that the active run made, or that runs below it made."""
    run = mlflow.active_run()
    if run is not None and (known := list(_known(model_ids))):
        models = [LoggedModelOutput(each, step=0) for each in known]
        MlflowClient().log_outputs(run.info.run_id, models)


def copy_datasets(run_id: str) -> None:
    """Log the datasets of another run as inputs of the active run, too."""
    run, source = mlflow.active_run(), MlflowClient().get_run(run_id)
    if run is not None and source.inputs and source.inputs.dataset_inputs:
        MlflowClient().log_inputs(run.info.run_id, datasets=list(source.inputs.dataset_inputs))


def _known(model_ids: Iterable[str | None]) -> Iterable[str]:
    """Yield the ids that the tracking server knows."""
    for each in dict.fromkeys(model_ids):
        with suppress(MlflowException):  # the registry may be of another server than the run
            if each:
                MlflowClient().get_logged_model(each)
                yield each
