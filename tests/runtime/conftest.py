"""The logged chat model, loaded, and questions for it."""

import json

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.pyfunc import GenaiPyfunc


@pytest.fixture(scope="session")
def pyfunc(chat: GenaiModel) -> PyFuncModel:
    """The chat model as MLflow loads it, which checks the signature."""
    return mlflow.pyfunc.load_model(chat.model_uri)


@pytest.fixture(scope="session")
def bare(pyfunc: PyFuncModel) -> GenaiPyfunc:
    """The Python model inside, without that check."""
    return pyfunc.unwrap_python_model()


@pytest.fixture(scope="session")
def questions() -> list[list[dict[str, str]]]:
    """Conversations of every shape that the template supports; some answers are not ASCII."""
    lines = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [row["question"] for row in rows if not row["answer"].isascii()]
    texts += [row["question"] for row in rows[:60:10]]
    return [
        *([{"role": "user", "content": question}] for question in texts),
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": texts[0]}],
        [
            {"role": "user", "content": texts[0]},
            {"role": "assistant", "content": "Ask me another."},
            {"role": "user", "content": texts[1]},
        ],
    ]
