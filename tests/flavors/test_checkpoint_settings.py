"""Both flavors of a checkpoint with settings of its own, compared with transformers' generate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from slmflow.datasets.rows import Row
from slmflow.flavors.pipeline_prompts import PipelinePromptEncoder
from slmflow.measurement.records import Likelihood
from slmflow.measurement.scoring.likelihood import score_rows
from slmflow.paths import PROJECT
from slmflow.runtime.session import ModelSession
from slmflow.serving.transformers_engine import open_session
from tests.fixtures.variants import Variant, edit_json, log_variant

_LINES = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
QUESTIONS = [json.loads(line)["question"] for line in _LINES[:40:10]]
MAX_TOKENS = 32
PENALTY = "repetition_penalty"

LogVariant = Callable[..., Variant]


@pytest.fixture
def variant(tmp_path: Path, weights: Path, onnx: Path, tracking: str) -> LogVariant:
    """Log a variant of the bundled model, given a function that edits the checkpoint's folder."""
    return lambda edit, *overrides: log_variant(tmp_path, weights, onnx, edit, *overrides)


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def answers(model: Any) -> list[tuple[str, dict[str, int]]]:
    """Return text and usage of the answer to each question."""
    completions = [model.predict({"messages": messages(each)})[0] for each in QUESTIONS]
    return [(each["choices"][0]["message"]["content"], each["usage"]) for each in completions]


def served_answers(variant: Variant) -> list[tuple[str, dict[str, int]]]:
    """Return the answers of the transformers flavor as the server gives them."""
    events: list[dict[str, Any]] = []
    session = open_session(variant.transformers, events.append)
    assert isinstance(session, ModelSession)
    for number, question in enumerate(QUESTIONS):
        session.submit({"id": number, "type": "chat", "body": {"messages": messages(question)}})
    session._model._scheduler._thread.join(60)
    finished = sorted((e for e in events if e["type"] == "finished"), key=lambda e: e["id"])
    return [(each["text"], each["usage"]) for each in finished]


def expected_answers(variant: Variant, **options: Any) -> list[tuple[str, dict[str, int]]]:
    """Return the answers of transformers' generate for the checkpoint as it was given."""
    reference, expected = variant.reference, []
    for question in QUESTIONS:
        prompt = reference.prompt(messages(question))
        ids = reference.continue_prompt(prompt, MAX_TOKENS, **options)
        usage = (len(prompt), len(ids), len(prompt) + len(ids))
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        expected.append((reference.text(ids), dict(zip(names, usage, strict=True))))
    return expected


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 20.0},
        {"no_repeat_ngram_size": 3, "min_p": 0.1},
        {
            "repetition_penalty": 1.2,
            "suppress_tokens": [325, 30],
            "begin_suppress_tokens": [310],
            "bad_words_ids": [[306, 300], [45]],
            "min_new_tokens": 20,
        },
    ],
    ids=lambda settings: " ".join(settings),
)
def test_both_flavors_follow_generation_config(
    variant: LogVariant, settings: dict[str, Any]
) -> None:
    logged = variant(lambda folder: edit_json(folder / "generation_config.json", **settings))
    expected = expected_answers(logged)
    assert expected != expected_answers(logged, **dict.fromkeys(settings)), (
        "settings have no effect"
    )
    for model in logged.flavors:
        assert answers(model) == expected
    assert served_answers(logged) == expected


def test_whole_number_is_a_repetition_penalty(variant: LogVariant) -> None:
    logged = variant(lambda folder: edit_json(folder / "generation_config.json", **{PENALTY: 2}))
    for model in logged.flavors:  # transformers' generate itself rejects a whole number
        assert answers(model) == expected_answers(logged, **{PENALTY: 2.0})


def test_settings_in_config_are_ignored_beside_generation_config(variant: LogVariant) -> None:
    logged = variant(lambda folder: edit_json(folder / "config.json", no_repeat_ngram_size=3))
    expected = expected_answers(logged)
    assert expected != expected_answers(logged, no_repeat_ngram_size=3)
    for model in logged.flavors:
        assert answers(model) == expected


def test_settings_in_config_hold_without_generation_config(variant: LogVariant) -> None:
    def edit(folder: Path) -> None:
        edit_json(folder / "config.json", no_repeat_ngram_size=3, eos_token_id=[1013, 1020])
        (folder / "generation_config.json").unlink()

    logged = variant(edit)
    expected = expected_answers(logged)
    assert expected != expected_answers(logged, no_repeat_ngram_size=0)
    for model in logged.flavors:
        assert answers(model) == expected


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"min_p": 1.0}])
def test_sampling_filters_of_the_checkpoint_hold_when_sampling(
    variant: LogVariant, settings: dict[str, Any]
) -> None:
    logged = variant(
        lambda folder: edit_json(folder / "generation_config.json", **settings),
        "generation.temperature=2",
    )
    for model in logged.flavors:  # each filter leaves only the most likely token
        assert answers(model) == expected_answers(logged)


def test_schema_overrides_forbidden_tokens(variant: LogVariant) -> None:
    settings = {"min_new_tokens": 40, "suppress_tokens": list(range(1013))}
    logged = variant(lambda folder: edit_json(folder / "generation_config.json", **settings))
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    response_format = {"type": "json_schema", "json_schema": {"name": "empty", "schema": schema}}
    for temperature in (0.0, 1.0):
        [completion] = logged.genai.predict(
            {
                "messages": messages(QUESTIONS[0]),
                "response_format": response_format,
                "temperature": temperature,
            }
        )
        assert completion["choices"][0]["message"]["content"] == "{}"


def write_end_tokens(folder: Path, config: Any, generation: Any, tokenizer: str | None) -> None:
    edit_json(folder / "config.json", eos_token_id=config)
    edit_json(folder / "generation_config.json", eos_token_id=generation)
    edit_json(folder / "tokenizer_config.json", eos_token=tokenizer)
    edit_json(folder / "special_tokens_map.json", eos_token=tokenizer)


@pytest.mark.parametrize(
    ("config", "generation", "tokenizer"),
    [(1020, 2, "</s>"), (2, [2], "<|end|>"), (None, None, None)],
)
def test_answers_end_where_any_file_says(
    variant: LogVariant, config: Any, generation: Any, tokenizer: str | None
) -> None:
    logged = variant(lambda folder: write_end_tokens(folder, config, generation, tokenizer))
    expected = expected_answers(logged, eos_token_id=1020)
    for model in logged.flavors:
        assert answers(model) == expected
    assert served_answers(logged) == expected


def add_bos(folder: Path) -> None:
    """Make both the tokenizer and the chat template begin a text with BOS."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    bos, text = (
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    )
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    edit_json(
        folder / "tokenizer_config.json",
        add_bos_token=True,
        chat_template="{{ bos_token }}" + template,
    )


def test_prompts_begin_with_one_bos(variant: LogVariant) -> None:
    logged = variant(add_bos)
    expected = expected_answers(logged)
    [prompt] = {usage["prompt_tokens"] for _, usage in expected[:1]}
    assert prompt == len(logged.reference.prompt(messages(QUESTIONS[0])))
    assert logged.reference.prompt(messages(QUESTIONS[0]))[:2].count(1) == 1
    for model in logged.flavors:
        assert answers(model) == expected
        [cut] = model.predict({"messages": messages(QUESTIONS[0]), "max_tokens": 3})
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["usage"]["completion_tokens"] == 3
        [first] = model.predict({"messages": messages(QUESTIONS[0]), "max_tokens": 1})
        assert first["usage"]["completion_tokens"] == 1
    assert served_answers(logged) == expected


def test_texts_and_scores_have_one_bos(variant: LogVariant) -> None:
    logged = variant(add_bos)
    genai = logged.genai.unwrap_python_model()
    pipeline = logged.transformers.get_raw_model()
    expected = logged.reference.tokenizer("Once upon").input_ids
    assert expected.count(1) == 1
    for prompts in (genai._prompts, PipelinePromptEncoder(pipeline.tokenizer)):
        for text in ("Once upon", "<s>Once upon"):
            assert prompts.encode_document(text) == expected
        assert prompts.encode_document("") == [1]
    logprob, tokens = logged.reference.score(messages(QUESTIONS[0]), "Paris")
    for model in logged.flavors:
        scores = score_rows(model, {7: Row(messages(QUESTIONS[0]), "Paris")})
        assert scores is not None
        likelihood = Likelihood(pytest.approx(logprob, abs=1e-4), tokens)
        assert list(scores) == [(7, likelihood, None)]


def add_token(folder: Path) -> None:
    """Give the tokenizer a token that the model has no weights for."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = {**tokenizer["added_tokens"][-1], "id": 1024, "content": "<|new|>"}
    tokenizer["added_tokens"].append(added)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def test_tokens_unknown_to_the_model_are_named(variant: LogVariant) -> None:
    from slmflow.flavors.unknown_tokens import install_check

    logged = variant(add_token)
    install_check(logged.transformers)
    for model in logged.flavors:
        with pytest.raises(MlflowException, match=r"'<\|new\|>', whose id is 1024.*1024 tokens"):
            model.predict({"messages": messages("What is <|new|>?")})
        assert answers(model) == expected_answers(logged)
