"""`predict_stream` through MLflow: chunks as they come, together the text that predict gives."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

Conversation = list[dict[str, str]]


def test_the_chunks_together_are_the_answer(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    """Some of the answers have characters of several bytes, which tokens cut through."""
    for question in questions:
        [whole] = pyfunc.predict({"messages": question})
        *pieces, end = pyfunc.predict_stream({"messages": question})
        text = whole["choices"][0]["message"]["content"]
        contents = [piece["choices"][0]["delta"]["content"] for piece in pieces]
        assert "".join(contents) == text
        assert not any("\ufffd" in content for content in contents)
        assert len(contents) > 1
        assert end["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert end["usage"] == whole["usage"]
        assert {chunk["object"] for chunk in (*pieces, end)} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in (*pieces, end)}) == 1


def test_options_hold_for_a_stream(pyfunc: PyFuncModel, questions: list[Conversation]) -> None:
    *_, end = pyfunc.predict_stream({"messages": questions[0], "max_tokens": 3, "stream": True})
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["usage"]["completion_tokens"] == 3


def test_a_bad_request_is_refused_before_anything_comes(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    with pytest.raises(MlflowException, match=r"temperature=9\.0: must be"):
        next(pyfunc.predict_stream({"messages": questions[0], "temperature": 9.0}))
