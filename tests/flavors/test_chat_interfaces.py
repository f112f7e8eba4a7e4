"""Each kind of MLflow chat model, called in this process."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import Completion, request_completion
from tests.measurement.models.logged import CHAT, FOLDER

pytestmark = pytest.mark.usefixtures("tracking")
MESSAGES = [
    {"role": "system", "content": "Be loud."},
    {"role": "user", "content": "one two three"},
]


def load_saved(folder: Path, code: str, **options: Any) -> mlflow.pyfunc.PyFuncModel:
    path = str(FOLDER / code)
    mlflow.pyfunc.save_model(folder, python_model=path, pip_requirements=["mlflow"], **options)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.mark.parametrize(
    ("code", "options", "expected"),
    [
        ("chat_agent.py", {"max_tokens": 1}, Completion("ONE TWO THREE")),
        ("responses_agent.py", {}, Completion("ONE TWO THREE", 3, 3)),
        ("responses_agent.py", {"max_output_tokens": 1}, Completion("ONE", 3, 1)),
        ("mlflow_chat_model.py", {}, Completion("The capital is one two three.")),
    ],
)
def test_completion_of_each_model_kind(
    tmp_path: Path, code: str, options: dict[str, int], expected: Completion
) -> None:
    model = load_saved(tmp_path / "model", code)
    assert request_completion(model, MESSAGES, **options) == expected


def test_output_of_another_form_is_rejected(tmp_path: Path) -> None:
    model = load_saved(tmp_path / "model", "odd_model.py", signature=CHAT)
    with pytest.raises(UserError, match="output for messages does not fit its interface"):
        request_completion(model, MESSAGES)
