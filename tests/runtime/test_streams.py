"""`predict_stream` through MLflow: chunks, together the text of `predict`."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

Conversation = list[dict[str, str]]


def test_chunks_join_to_the_whole_completion(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    """Some completions have multi-byte characters that span several tokens."""
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


def test_options_apply_to_streams(pyfunc: PyFuncModel, questions: list[Conversation]) -> None:
    *_, end = pyfunc.predict_stream({"messages": questions[0], "max_tokens": 3, "stream": True})
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["usage"]["completion_tokens"] == 3


def test_invalid_request_is_rejected_before_first_chunk(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    with pytest.raises(MlflowException, match=r"temperature=9\.0: must be"):
        next(pyfunc.predict_stream({"messages": questions[0], "temperature": 9.0}))
