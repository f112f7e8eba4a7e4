"""What becomes of answers when the model that gave them is gone."""

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.datasets.rows import Row
from slmflow.flavors.genai_result import GenaiModel
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.result import Measurements
from slmflow.measurement.turns import measure
from slmflow.pipeline.results import Stale
from tests.measurement.models.logged import log


@pytest.mark.usefixtures("tracking")
def test_answers_of_a_model_that_was_deleted_are_asked_for_anew() -> None:
    with mlflow.start_run() as run:
        model = log(GenaiModel, "chat_model.py")
        row = Row([{"role": "user", "content": "one"}], "one")
        result = Measurements.log(run, "0" * 64, measure([MeasuredModel.of(model)], [row]))
    result.check()

    MlflowClient().delete_logged_model(model.model_id)

    with pytest.raises(Stale, match="is not there any more"):
        result.check()
