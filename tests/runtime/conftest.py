"""The logged chat model, loaded, and what it is asked."""

import json

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.flavors.genai_result import GenaiModel
from slmflow.paths import PROJECT
from slmflow.runtime.pyfunc import GenaiPyfunc


@pytest.fixture(scope="session")
def pyfunc(chat: GenaiModel) -> PyFuncModel:
    """The chat model as MLflow loads it, with the check of the signature before it."""
    return mlflow.pyfunc.load_model(chat.model_uri)


@pytest.fixture(scope="session")
def bare(pyfunc: PyFuncModel) -> GenaiPyfunc:
    """The same without that check."""
    return pyfunc.unwrap_python_model()


@pytest.fixture(scope="session")
def questions() -> list[list[dict[str, str]]]:
    """Conversations of every shape the chat template knows; some answers are not ASCII."""
    lines = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    asked = [row["question"] for row in rows if not row["answer"].isascii()]
    asked += [row["question"] for row in rows[:60:10]]
    return [
        *([{"role": "user", "content": question}] for question in asked),
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked[0]}],
        [
            {"role": "user", "content": asked[0]},
            {"role": "assistant", "content": "Ask me another."},
            {"role": "user", "content": asked[1]},
        ],
    ]
