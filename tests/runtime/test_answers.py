"""Answers of the logged chat model against transformers on the same weights."""

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

from slmflow.runtime.prompts.conversation import TemplatePrompts
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


def reason(completion: dict[str, Any]) -> str:
    return completion["choices"][0]["finish_reason"]


def ask(model: PyFuncModel | GenaiPyfunc, question: Conversation, **options: Any) -> dict[str, Any]:
    request = {"messages": question, **options}
    if isinstance(model, PyFuncModel):
        return model.predict(request)[0]
    return model.predict(None, pd.DataFrame([request]))[0]


def test_every_row_is_answered_as_transformers_would(
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
        assert reason(completion) == ("stop" if reference.ends(ids) else "length")
        assert completion["object"] == "chat.completion"
        assert completion["model"] == "tiny_phi3"
        assert completion["choices"][0]["message"]["role"] == "assistant"


def test_max_tokens_ends_with_length_unless_the_end_token_fits(
    pyfunc: PyFuncModel, reference: Reference, questions: list[Conversation]
) -> None:
    whole = reference.generate(questions[0], 48)
    assert reference.ends(whole), "the bundled model ends its answers"
    for limit in (1, 4, len(whole) - 1, len(whole), len(whole) + 1):
        completion = ask(pyfunc, questions[0], max_tokens=limit)
        ids = whole[:limit]
        assert content(completion) == reference.text(ids)
        assert completion["usage"]["completion_tokens"] == len(ids)
        assert reason(completion) == ("stop" if reference.ends(ids) else "length")


def test_the_context_bounds_the_answer(bare: GenaiPyfunc, reference: Reference) -> None:
    question = [{"role": "user", "content": "x"}]
    while len(reference.prompt(question)) < 512 - 3:
        question[0]["content"] += " x"
    room = 512 - len(reference.prompt(question))
    completion = ask(bare, question, max_tokens=1000)
    assert completion["usage"]["completion_tokens"] == len(reference.generate(question, room))
    assert completion["usage"]["total_tokens"] <= 512


@pytest.mark.parametrize("length", [1, 3, 8])
def test_text_is_cut_before_a_stop_string_wherever_its_tokens_lie(
    bare: GenaiPyfunc, questions: list[Conversation], length: int
) -> None:
    whole = content(ask(bare, questions[0]))
    for start in range(len(whole) - length + 1):
        stop = whole[start : start + length]
        completion = ask(bare, questions[0], stop=[stop])
        assert content(completion) == whole[: whole.index(stop)]
        assert reason(completion) == "stop"


def test_the_first_of_several_stop_strings_counts(
    bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    whole = content(ask(bare, questions[0]))
    first, second = whole[4:9], whole[7:12]
    assert content(ask(bare, questions[0], stop=[second, first, "no such text"])) == whole[:4]
    assert content(ask(bare, questions[0], stop="no such text")) == whole


def test_each_row_has_its_own_options_and_the_next_request_none_of_them(
    pyfunc: PyFuncModel, bare: GenaiPyfunc, questions: list[Conversation]
) -> None:
    plain = ask(pyfunc, questions[0])
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
    assert (reason(limited), limited["usage"]["completion_tokens"]) == ("length", 2)
    assert content(stopped) == text[: text.index(text[5:8])]
    for completion in (*greedy, ask(pyfunc, questions[0])):
        assert content(completion) == text
        assert completion["usage"]["completion_tokens"] == tokens


def test_a_row_may_leave_out_what_another_gives_also_where_the_signature_is_checked(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    asked = {"messages": questions[0], "max_tokens": 5}
    text = content(ask(pyfunc, questions[0]))
    greedy = {"temperature": 2.0, "top_p": 1e-6}
    rows = pd.DataFrame([{**asked, "stop": None}, {**asked, **greedy, "stop": [text[:3]]}])
    limited, stopped = pyfunc.predict(rows)
    assert (reason(limited), limited["usage"]["completion_tokens"]) == ("length", 5)
    assert text.startswith(content(limited))
    assert (reason(stopped), content(stopped)) == ("stop", "")
    with pytest.raises(MlflowException, match="column max_tokens"):  # by MLflow: pandas's NaN
        pyfunc.predict(pd.DataFrame([asked, {"messages": questions[0]}]))


def test_a_pad_token_in_a_prompt_is_no_padding(bare: GenaiPyfunc, reference: Reference) -> None:
    """Anyone can write it, also where a batch has its padding."""
    pad = reference.tokenizer.pad_token
    texts = ["The capital of France", f"The capital of{pad}", f"{pad}The capital of Ital", pad]
    told: list[SimpleQueue[Any]] = [SimpleQueue() for _ in texts]
    asked = zip(texts, told, strict=True)
    bare.chat.submit([bare.chat.completion(text, {"max_tokens": 8}, of.put) for text, of in asked])
    for text, of in zip(texts, told, strict=True):
        while not hasattr(event := of.get(timeout=30), "text"):
            pass
        prompt = reference.tokenizer.encode(text)
        assert event.text == reference.text(reference.go_on(prompt, 8)), text


def test_temperature_is_honoured(bare: GenaiPyfunc, questions: list[Conversation]) -> None:
    sampled = {content(ask(bare, questions[0], temperature=2.0, top_k=0)) for _ in range(10)}
    assert len(sampled) > 1


def test_threads_do_not_disturb_each_other(
    pyfunc: PyFuncModel, questions: list[Conversation]
) -> None:
    alone = [content(ask(pyfunc, question)) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda question: content(ask(pyfunc, question)), questions * 3)
    assert list(together) == alone * 3


def test_score_is_the_log_probability_that_transformers_gives(
    bare: GenaiPyfunc, reference: Reference, questions: list[Conversation]
) -> None:
    answers = ["Paris", "The capital of France is Paris.", " 日本\n", reference.text([1020])]
    for question in questions[-3:]:
        for answer in answers:
            total, count = bare.score(question, answer)
            expected, tokens = reference.score(question, answer)
            assert count == tokens
            assert total == pytest.approx(expected, abs=1e-3)


def test_prompts_have_the_token_ids_of_transformers(
    onnx: Path, reference: Reference, questions: list[Conversation]
) -> None:
    prompts = TemplatePrompts(onnx)
    odd = [
        [{"role": "user", "content": text}]
        for text in (
            *("", "  two  spaces ", "a\n\n b\t", "日本 🙂 é", "<|end|> in it", "x" * 300),
            *("<|end|>\u00a0no-break", "a\u2581b", "a\0b"),
        )
    ]
    for question in questions + odd:
        assert prompts.of_chat(question) == reference.prompt(question)


def test_a_template_that_writes_the_first_token_does_not_get_a_second(
    onnx: Path, tmp_path: Path
) -> None:
    """As Llama's: the template begins with the token that its tokenizer also puts in front."""
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
    ids = TemplatePrompts(folder).of_chat(question)
    assert ids == tokenizer.apply_chat_template(question, add_generation_prompt=True)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id
