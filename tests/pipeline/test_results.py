"""Results as JSON, and when they are stale."""

import json

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.pipeline.results import GenaiModel, InvalidResult, Measurements
from tests.measurement.models.logged import log_model


def test_result_survives_json() -> None:
    result = Measurements("run", {"cpu": "a fast one"}, ("models:/m-1", "models:/m-2"))
    assert Measurements.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.usefixtures("tracking")
def test_deleted_model_is_stale() -> None:
    """Although its files remain; `verify` recommends to delete a model that was changed."""
    with mlflow.start_run():
        model = log_model(GenaiModel, "chat_model.py")
    model.check()

    MlflowClient().delete_logged_model(model.model_id)

    with pytest.raises(InvalidResult, match="no longer exists"):
        model.check()
