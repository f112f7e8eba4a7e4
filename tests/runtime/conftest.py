"""The logged chat model, loaded, and questions for it."""

import json

import pytest
from mlflow.pyfunc import PyFuncModel

from slmflow.paths import PROJECT
from slmflow.runtime.pyfunc import GenaiPyfunc


@pytest.fixture(scope="session")
def bare(pyfunc: PyFuncModel) -> GenaiPyfunc:
    """The Python model inside the logged chat model, without the check of the signature."""
    return pyfunc.unwrap_python_model()


@pytest.fixture(scope="session")
def questions() -> list[list[dict[str, str]]]:
    """Conversations of every shape that the template supports; some answers are not ASCII."""
    lines = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [row["question"] for row in rows if not row["answer"].isascii()]
    texts += [row["question"] for row in rows[:60:10]]
    turns = [{"role": "user", "content": text} for text in texts]
    return [
        *([turn] for turn in turns),
        [{"role": "system", "content": "Be brief."}, turns[0]],
        [turns[0], {"role": "assistant", "content": "Ask me another."}, turns[1]],
    ]
