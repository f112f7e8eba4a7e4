"""Real MLflow models, loaded and asked in processes of their own."""

from pathlib import Path

import mlflow
import pytest
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from mlflow.types.schema import ColSpec, Schema

from steps.common.errors import UserError
from steps.common.rows import Row
from steps.evaluate.measure import measure
from steps.log_genai.result import GenaiModel

pytestmark = pytest.mark.usefixtures("tracking")

HERE = Path(__file__).parent
CHAT = ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA)
PROMPT = ModelSignature(Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string")]))


def asked(*said: str, answer: str) -> Row:
    """Return a row whose messages are the user's and the assistant's in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return Row(messages, answer)


ROWS = [asked("one", answer="uno"), asked("one two three", answer="uno dos tres")]


def saved(folder: Path, code: str, signature: ModelSignature) -> GenaiModel:
    mlflow.pyfunc.save_model(
        folder, python_model=str(HERE / code), signature=signature, pip_requirements=["mlflow"]
    )
    return GenaiModel(model_uri=str(folder), model_id="", size_bytes=0)


def test_chat_model(tmp_path: Path) -> None:
    ballast = b"x" * 1_000_000_000
    measured = measure(saved(tmp_path / "model", "chat_model.py", CHAT), ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    assert [answer.completion_tokens for answer in measured.answers] == [1, 3]
    assert [answer.prompt_tokens for answer in measured.answers] == [1, 3]
    assert all(answer.first_token_s and answer.latency_s > 0 for answer in measured.answers)
    assert measured.perplexity == pytest.approx(2)
    assert measured.load_s > 0
    # Not the memory of this process, the parent.
    assert measured.peak_rss_bytes is None or 10e6 < measured.peak_rss_bytes < len(ballast)


def test_prompt_model_has_no_counts_and_no_score(tmp_path: Path) -> None:
    measured = measure(saved(tmp_path / "model", "prompt_model.py", PROMPT), ROWS)
    assert [answer.text for answer in measured.answers] == ["one", "one two three"]
    for answer in measured.answers:
        assert answer.first_token_s is answer.prompt_tokens is answer.completion_tokens is None
    assert measured.perplexity is None


def test_prompt_model_is_not_asked_what_a_prompt_cannot_hold(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", "prompt_model.py", PROMPT)
    with pytest.raises(
        UserError, match="measured: the model takes a prompt, but a row is a conversation of 3 mess"
    ):
        measure(model, [asked("one", "two", "three", answer="")])


@pytest.mark.parametrize(
    ("question", "reason"),
    [("crash", "the genai model .*: ValueError: the parrot is tired"), ("die", "SIGKILL.*memory")],
)
def test_failure_is_named(tmp_path: Path, question: str, reason: str) -> None:
    model = saved(tmp_path / "model", "chat_model.py", CHAT)
    with pytest.raises(UserError, match=reason):
        measure(model, [asked("one", answer="uno"), asked(question, answer="")])
