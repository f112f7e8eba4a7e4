"""Completions and streams of the logged model, compared with transformers on its weights."""

from queue import SimpleQueue
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.pyfunc import GenaiPyfunc
from tests.fixtures.bundled_model import Reference

Conversation = list[dict[str, str]]


def content(completion: dict[str, Any]) -> str:
    return completion["choices"][0]["message"]["content"]


def finish_reason(completion: dict[str, Any]) -> str:
    return completion["choices"][0]["finish_reason"]


def complete(
    model: PyFuncModel | GenaiPyfunc, question: Conversation, **options: Any
) -> dict[str, Any]:
    request = {"messages": question, **options}
    if isinstance(model, PyFuncModel):
        return model.predict(request)[0]
    return model.predict(None, pd.DataFrame([request]))[0]


def test_completions_equal_those_of_transformers(
    pyfunc: PyFuncModel, reference: Reference, questions: list[Conversation]
) -> None:
    completions = pyfunc.predict(pd.DataFrame({"messages": questions}))
    expected = [reference.generate(question, 48) for question in questions]
    assert [content(c) for c in completions] == [reference.text(ids) for ids in expected]
    for question, ids, completion in zip(questions, expected, completions, strict=True):
        prompt = len(reference.prompt(question))
        assert completion["usage"] == {
            "prompt_tokens": prompt,
            "completion_tokens": len(ids),
            "total_tokens": prompt + len(ids),
        }
        assert finish_reason(completion) == ("stop" if reference.ends(ids) else "length")
        assert completion["object"] == "chat.completion"
        assert completion["model"] == "tiny_phi3"
        assert completion["choices"][0]["message"]["role"] == "assistant"


def test_max_tokens_gives_finish_reason_length(
    pyfunc: PyFuncModel, reference: Reference, questions: list[Conversation]
) -> None:
    whole = reference.generate(questions[0], 48)
    assert reference.ends(whole), "the bundled model generates end tokens"
    for limit in (1, 4, len(whole) - 1, len(whole), len(whole) + 1):
        completion = complete(pyfunc, questions[0], max_tokens=limit)
        ids = whole[:limit]
        assert content(completion) == reference.text(ids)
        assert completion["usage"]["completion_tokens"] == len(ids)
        assert finish_reason(completion) == ("stop" if reference.ends(ids) else "length")


def test_context_limits_completion(bare: GenaiPyfunc, reference: Reference) -> None:
    question = [{"role": "user", "content": "x"}]
    while len(reference.prompt(question)) < 512 - 3:
        question[0]["content"] += " x"
    remaining = 512 - len(reference.prompt(question))
    completion = complete(bare, question, max_tokens=1000)
    assert completion["usage"]["completion_tokens"] == len(reference.generate(question, remaining))
    assert completion["usage"]["total_tokens"] <= 512


def test_first_of_several_stop_strings_counts(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    whole = content(complete(bare, questions[0]))
    first, second = whole[4:9], whole[7:12]
    stopped = complete(bare, questions[0], stop=[second, first, "no such text"])
    assert (content(stopped), finish_reason(stopped)) == (whole[:4], "stop")
    assert content(complete(bare, questions[0], stop="no such text")) == whole


def test_options_apply_to_their_own_row_only(
    pyfunc: PyFuncModel, bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    plain = complete(pyfunc, questions[0])
    text, tokens = content(plain), plain["usage"]["completion_tokens"]
    rows = pd.DataFrame(
        [
            {"messages": questions[0], "max_tokens": 2, "temperature": 0.0},
            {"messages": questions[0], "temperature": None, "stop": [text[5:8]]},
            {"messages": questions[0], "temperature": 2.0, "top_k": 1},
            {"messages": questions[0], "temperature": 2.0, "top_p": 1e-6},
            {"messages": questions[0], "top_p": float("nan"), "max_tokens": pd.NA},
        ]
    )
    limited, stopped, *greedy = bare.predict(None, rows)
    assert (finish_reason(limited), limited["usage"]["completion_tokens"]) == ("length", 2)
    assert content(stopped) == text[: text.index(text[5:8])]
    for completion in (*greedy, complete(pyfunc, questions[0])):
        assert content(completion) == text
        assert completion["usage"]["completion_tokens"] == tokens


def test_rows_may_have_different_options(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    request = {"messages": questions[0], "max_tokens": 5}
    text = content(complete(pyfunc, questions[0]))
    greedy = {"temperature": 2.0, "top_p": 1e-6}
    rows = pd.DataFrame([{**request, "stop": None}, {**request, **greedy, "stop": [text[:3]]}])
    limited, stopped = pyfunc.predict(rows)
    assert (finish_reason(limited), limited["usage"]["completion_tokens"]) == ("length", 5)
    assert text.startswith(content(limited))
    assert (finish_reason(stopped), content(stopped)) == ("stop", "")
    with pytest.raises(MlflowException, match="column max_tokens"):  # by MLflow: pandas's NaN
        pyfunc.predict(pd.DataFrame([request, {"messages": questions[0]}]))


def test_pad_token_in_prompt_is_not_padding(bare: GenaiPyfunc, reference: Reference) -> None:
    """Any caller can write it, also at the end, where a batch is padded."""
    pad = reference.tokenizer.pad_token
    texts = ["The capital of France", f"The capital of{pad}", f"{pad}The capital of Ital", pad]
    events: list[SimpleQueue[Any]] = [SimpleQueue() for _ in texts]
    model = bare._chat_model
    model.submit(
        [
            model.prepare_completion(text, {"max_tokens": 8}, queue.put)
            for text, queue in zip(texts, events, strict=True)
        ]
    )
    for text, queue in zip(texts, events, strict=True):
        while not hasattr(
            event := queue.get(timeout=30), "finish_reason"
        ):  # the model has its own classes
            pass
        prompt = reference.tokenizer.encode(text)
        expected = reference.text(reference.continue_prompt(prompt, 8))
        assert event.text.lstrip() == expected, text


def test_score_equals_log_probability_of_transformers(
    bare: GenaiPyfunc, reference: Reference, questions: list[Conversation]
) -> None:
    answers = ["Paris", "The capital of France is Paris.", " 日本\n", reference.text([1020])]
    for question in questions[-3:]:
        for answer in answers:
            total, count = bare.score(question, answer)
            expected, tokens = reference.score(question, answer)
            assert count == tokens
            assert total == pytest.approx(expected, abs=1e-3)


def test_chunks_join_to_the_whole_completion(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    """Some completions have multi-byte characters that span several tokens."""
    for question in questions:
        [whole] = pyfunc.predict({"messages": question})
        *pieces, end = pyfunc.predict_stream({"messages": question})
        contents = [piece["choices"][0]["delta"]["content"] for piece in pieces]
        assert "".join(contents) == content(whole)
        assert not any("\ufffd" in each for each in contents)
        assert len(contents) > 1
        assert finish_reason(end) == finish_reason(whole)
        assert end["usage"] == whole["usage"]
        assert {chunk["object"] for chunk in (*pieces, end)} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in (*pieces, end)}) == 1


def test_options_apply_to_streams(pyfunc: PyFuncModel, questions: list[Conversation]) -> None:
    *_, end = pyfunc.predict_stream({"messages": questions[0], "max_tokens": 3, "stream": True})
    assert finish_reason(end) == "length"
    assert end["usage"]["completion_tokens"] == 3


def test_invalid_request_is_rejected_before_first_chunk(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    with pytest.raises(MlflowException, match=r"temperature=9\.0: must be"):
        next(pyfunc.predict_stream({"messages": questions[0], "temperature": 9.0}))
