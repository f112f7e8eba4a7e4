"""Reuse of logged measurements."""

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config.compose import load
from slmflow.datasets.rows import Row
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.interleaved import measure
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline.results import GenaiModel, InvalidResult
from slmflow.pipeline.step import Step
from tests.measurement.models.logged import log_model


@pytest.mark.usefixtures("tracking")
def test_measurements_of_a_deleted_model_are_stale() -> None:
    with mlflow.start_run() as run:
        model = log_model(GenaiModel, "chat_model.py")
        row = Row([{"role": "user", "content": "one"}], "one")
        step = Step("measure", load([]), (), run)
        result = log_measurements(step, measure([MeasuredModel.from_logged(model)], [row]))
    result.check()

    MlflowClient().delete_logged_model(model.model_id)

    with pytest.raises(InvalidResult, match="no longer exists"):
        result.check()
