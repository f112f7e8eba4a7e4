"""What becomes of answers when the model that gave them is gone."""

import mlflow
import pytest
from mlflow import MlflowClient

from steps.common.results import Stale
from steps.common.rows import Row
from steps.log_genai.result import GenaiModel
from steps.measure.models import MeasuredModel
from steps.measure.result import Measurements
from steps.measure.turns import measure
from tests.measure.logged import log


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
