"""What MLflow's own kinds of models answer, in this process."""

from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import Reply, ask
from tests.measurement.models.logged import CHAT, HERE

pytestmark = pytest.mark.usefixtures("tracking")
MESSAGES = [
    {"role": "system", "content": "Be loud."},
    {"role": "user", "content": "one two three"},
]


def loaded(folder: Path, code: str, **kind: Any) -> mlflow.pyfunc.PyFuncModel:
    model = str(HERE / code)
    mlflow.pyfunc.save_model(folder, python_model=model, pip_requirements=["mlflow"], **kind)
    return mlflow.pyfunc.load_model(str(folder))


def test_a_chat_agent(tmp_path: Path) -> None:
    agent = loaded(tmp_path / "model", "chat_agent.py")
    assert ask(agent, MESSAGES, max_tokens=1) == Reply("ONE TWO THREE")


def test_a_responses_agent(tmp_path: Path) -> None:
    agent = loaded(tmp_path / "model", "responses_agent.py")
    assert ask(agent, MESSAGES) == Reply("ONE TWO THREE", 3, 3)
    assert ask(agent, MESSAGES, max_output_tokens=1) == Reply("ONE", 3, 1)


def test_a_chat_model(tmp_path: Path) -> None:
    model = loaded(tmp_path / "model", "mlflow_chat_model.py")
    assert ask(model, MESSAGES) == Reply("The capital is one two three.")


def test_an_answer_of_another_kind_is_refused(tmp_path: Path) -> None:

    model = loaded(tmp_path / "model", "odd_model.py", signature=CHAT)
    with pytest.raises(UserError, match="its answer to messages is not as its interface has it"):
        ask(model, MESSAGES)
