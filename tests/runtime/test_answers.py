"""Completions of the logged chat model, compared with transformers on the same weights."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.prompts.conversation import TemplatePromptEncoder
from slmflow.runtime.pyfunc import GenaiPyfunc
from tests.fixtures.bundled_model import Reference

BEGIN_WITH_BOS = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}

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


@pytest.mark.parametrize("length", [1, 3, 8])
def test_text_is_cut_before_stop_string(
    bare: GenaiPyfunc, questions: list[Conversation], length: int
) -> None:
    whole = content(complete(bare, questions[0]))
    for start in range(len(whole) - length + 1):
        stop = whole[start : start + length]
        completion = complete(bare, questions[0], stop=[stop])
        assert content(completion) == whole[: whole.index(stop)]
        assert finish_reason(completion) == "stop"


def test_first_of_several_stop_strings_counts(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    whole = content(complete(bare, questions[0]))
    first, second = whole[4:9], whole[7:12]
    assert content(complete(bare, questions[0], stop=[second, first, "no such text"])) == whole[:4]
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
        while not hasattr(event := queue.get(timeout=30), "text"):  # the model has its own classes
            pass
        prompt = reference.tokenizer.encode(text)
        assert event.text == reference.text(reference.continue_prompt(prompt, 8)), text


def test_temperature_randomizes_completions(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    sampled = {content(complete(bare, questions[0], temperature=2.0, top_k=0)) for _ in range(10)}
    assert len(sampled) > 1


def test_concurrent_threads_get_the_same_completions(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    alone = [content(complete(pyfunc, question)) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda question: content(complete(pyfunc, question)), questions * 3)
    assert list(together) == alone * 3


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


def test_prompt_token_ids_equal_those_of_transformers(
    onnx: Path, reference: Reference, questions: list[Conversation]
) -> None:
    prompts = TemplatePromptEncoder(onnx)
    odd = [
        [{"role": "user", "content": text}]
        for text in (
            *("", "  two  spaces ", "a\n\n b\t", "日本 🙂 é", "<|end|> in it", "x" * 300),
            *("<|end|>\u00a0no-break", "a\u2581b", "a\0b"),
        )
    ]
    for question in questions + odd:
        assert prompts.encode_chat(question) == reference.prompt(question)


def test_bos_written_by_template_is_not_repeated(onnx: Path, tmp_path: Path) -> None:
    """Llama's template starts with the token that its tokenizer also adds."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(onnx, tmp_path / "llama"))
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    for name, setting in (
        ("tokenizer_config.json", {"add_bos_token": True}),
        ("tokenizer.json", {"post_processor": BEGIN_WITH_BOS}),
    ):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = TemplatePromptEncoder(folder).encode_chat(question)
    assert ids == tokenizer.apply_chat_template(question, add_generation_prompt=True)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
