"""Batched generation compared with MLflow's own answers, token by token."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.transformers.llm_inference_utils import _get_completions_text
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from slmflow.config import compose as configs
from slmflow.flavors.chat_interfaces import request_completion
from slmflow.measurement.answers import batched_generation
from slmflow.measurement.answers.generate_settings import Batching
from slmflow.measurement.answers.pipeline_generation import PipelineGenerator
from slmflow.paths import PROJECT
from slmflow.pipeline.results import TransformersModel
from steps.fetch import fetch_checkpoint
from steps.log_transformers import log_transformers
from tests.fixtures.base_model import BaseReference, make_base_model, overrides
from tests.fixtures.bundled_model import FP32, Reference, StepInputs, in_store
from tests.fixtures.thinking_model import OPENED, Thinking, ThinkingModel
from tests.fixtures.variants import edit_json
from tests.flavors.test_checkpoint_settings import add_bos

_LINES = (PROJECT / "bundled" / "capitals" / "evaluation.jsonl").read_text().splitlines()
QUESTIONS = [json.loads(line)["question"] for line in _LINES]
TEXT = " ".join(QUESTIONS).split()

Messages = list[dict[str, str]]
Variant = Callable[[Callable[[Path], None]], PipelineGenerator]
SetOptions = Callable[..., None]


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def conversations() -> list[Messages]:
    """Return conversations of many lengths, whose answers have many lengths too."""
    questions = [*QUESTIONS[:25:5], *(" ".join(TEXT[n : n * n]) for n in (2, 5, 7))]
    follow_up = [*user(QUESTIONS[0]), {"role": "assistant", "content": "Kabul."}]
    return [*map(user, questions), [*follow_up, *user(QUESTIONS[1])]]


def load(logged: TransformersModel) -> PipelineGenerator:
    """Load a model as MLflow does."""
    return PipelineGenerator(mlflow.pyfunc.load_model(logged.model_uri))


@pytest.fixture(scope="module")
def generator(pipeline: TransformersModel) -> PipelineGenerator:
    return load(pipeline)


@pytest.fixture
def set_options(generator: PipelineGenerator, monkeypatch: pytest.MonkeyPatch) -> SetOptions:
    """Return a function that sets options of `generate` as if they had been logged."""
    wrapper = generator._predictor._model_impl

    def set_all(**options: Any) -> None:
        config = MappingProxyType({**wrapper.model_config, **options})
        monkeypatch.setattr(wrapper, "model_config", config)

    return set_all


@pytest.fixture
def calls(generator: PipelineGenerator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of rows of each call of `generate`."""
    rows: list[int] = []
    generate = generator._recorder.generate

    def count(**arguments: Any) -> Any:
        rows.append(len(arguments["input_ids"]))
        return generate(**arguments)

    monkeypatch.setattr(generator._recorder, "generate", count)
    return rows


def answers_alone(generator: PipelineGenerator, asked: list[Messages]) -> dict[int, list[int]]:
    """Let MLflow answer; return the generated ids by number."""
    alone = {}
    for number, messages in enumerate(asked):
        request_completion(generator._predictor, messages)
        alone[number] = generator.last.generated_ids
    return alone


def encode_all(generator: PipelineGenerator, asked: list[Messages]) -> dict[int, list[int]]:
    return {number: generator.encode(each) for number, each in enumerate(asked)}


def check_batched(generator: PipelineGenerator, asked: list[Messages]) -> dict[int, list[int]]:
    """Answer alone by MLflow and in batches; return the generated ids, which must be the same."""
    alone = answers_alone(generator, asked)
    assert dict(generator.generate(encode_all(generator, asked))) == alone
    return alone


@pytest.fixture
def variant(tmp_path: Path, weights: Path, experiment: str) -> Variant:
    """Log and load a variant of the bundled model, given a function that edits its folder."""

    def log(edit: Callable[[Path], None]) -> PipelineGenerator:
        folder = tmp_path / "variant"
        shutil.copytree(weights, folder)
        edit(folder)
        with mlflow.start_run(experiment_id=experiment):
            return load(log_transformers(StepInputs(configs.load(FP32), folder)))

    return log


def test_batched_answers_equal_those_of_mlflow(
    generator: PipelineGenerator, reference: Reference
) -> None:
    asked = conversations()
    alone = check_batched(generator, asked)
    for number, messages in enumerate(asked):
        assert alone[number] == reference.generate(messages, 48)
    assert len({len(ids) for ids in alone.values()}) > 3


PADDED: list[dict[str, Any]] = [
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 1.3, "min_new_tokens": 14, "max_new_tokens": 24},
    {"suppress_tokens": [369]},
    {"stop_sequence": ["is", "ki"]},
    {"eos_token_id": [1013, 325]},
    {"max_new_tokens": 5},
]
EQUAL_LENGTHS: list[dict[str, Any]] = [
    {"no_repeat_ngram_size": 2},
    {"begin_suppress_tokens": [377], "bad_words_ids": [[369, 372]]},
    {"min_length": 60, "stop_sequence": "is"},
    {"exponential_decay_length_penalty": (2, 3.0)},
]


@pytest.mark.parametrize(
    ("options", "batching"),
    [
        *((options, Batching.PADDED) for options in PADDED),
        *((options, Batching.EQUAL_LENGTHS) for options in EQUAL_LENGTHS),
        ({"encoder_repetition_penalty": 3.0}, Batching.ALONE),
    ],
    ids=str,
)
def test_options_hold_in_batches(
    generator: PipelineGenerator,
    set_options: SetOptions,
    calls: list[int],
    options: dict[str, Any],
    batching: Batching,
) -> None:
    asked = conversations()
    plain = dict(generator.generate(encode_all(generator, asked)))
    set_options(**options)
    alone = answers_alone(generator, asked)
    assert alone != plain, "the options have no effect"
    assert generator._settings().batching is batching

    prompts = encode_all(generator, asked)
    calls.clear()
    assert dict(generator.generate(prompts)) == alone
    assert (calls[0] == len(asked)) == (batching is Batching.PADDED)
    assert (max(calls) == 1) == (batching is Batching.ALONE)


def test_batches_shrink_as_rows_finish(generator: PipelineGenerator, calls: list[int]) -> None:
    prompts = encode_all(generator, conversations())
    lengths = [len(ids) for _, ids in generator.generate(prompts)]
    assert calls[0] == len(prompts)
    assert sorted(calls, reverse=True) == calls
    assert len(calls) > 2
    assert lengths == sorted(lengths)


def test_batches_are_bounded_by_memory(
    generator: PipelineGenerator, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = generator.encode(user(QUESTIONS[0]))
    config = generator._model.config
    bytes_per_token = 2 * config.num_hidden_layers * config.hidden_size * 4
    room = 3 * (len(prompt) + 48) * bytes_per_token
    monkeypatch.setattr(batched_generation, "_MAX_CACHE_BYTES", room)
    answers = dict(generator.generate(dict.fromkeys(range(7), prompt)))
    assert max(calls) == 3
    assert len({tuple(ids) for ids in answers.values()}) == 1


def test_single_row_equals_mlflow(generator: PipelineGenerator) -> None:
    check_batched(generator, [user(QUESTIONS[3])])


def test_nothing_is_generated_for_no_prompts(generator: PipelineGenerator) -> None:
    generator.encode(user(QUESTIONS[0]))
    assert list(generator.generate({})) == []


def test_sampling_is_left_to_mlflow(generator: PipelineGenerator, set_options: SetOptions) -> None:
    set_options(do_sample=True, temperature=2.0)
    prompt = generator.encode(user(QUESTIONS[0]))
    assert not generator.is_greedy
    with pytest.raises(ValueError, match="sampling"):
        list(generator.generate({0: prompt}))


def test_recording_changes_no_answer(
    generator: PipelineGenerator, pipeline: TransformersModel, reference: Reference
) -> None:
    question = user(QUESTIONS[0])
    untouched = mlflow.pyfunc.load_model(pipeline.model_uri)
    started = time.perf_counter()
    completion = request_completion(generator._predictor, question)
    ended = time.perf_counter()
    recorded = generator.last
    assert completion == request_completion(untouched, question)
    assert recorded.prompt_ids == reference.prompt(question)
    assert recorded.generated_ids == reference.generate(question, 48)
    assert started < recorded.first_token_at < ended
    assert generator.encode(question) == recorded.prompt_ids
    assert generator.is_greedy


def test_bos_is_read_once_in_batches(variant: Variant) -> None:
    generator = variant(add_bos)
    prompt = generator.encode(user(QUESTIONS[0]))
    assert prompt[:2].count(1) == 1
    alone = check_batched(generator, conversations())
    completion = generator.completion(prompt, alone[0])
    assert (completion.prompt_tokens, completion.completion_tokens) == (len(prompt), len(alone[0]))


def test_base_model_continues_prompts(tmp_path: Path, home: Path, experiment: str) -> None:
    given = make_base_model(tmp_path / "base")
    config = configs.load(overrides(given))
    folder = in_store(
        home, "weights", "batched_base", lambda folder: fetch_checkpoint(config.model, folder)
    )
    reference = BaseReference(
        PreTrainedTokenizerFast.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )
    with mlflow.start_run(experiment_id=experiment):
        generator = load(log_transformers(StepInputs(config, folder)))
    prompts = ["The capital of France is", "Berlin is the capital", "Which city", " ".join(TEXT)]
    asked = [user(prompt[:300]) for prompt in prompts]
    alone = check_batched(generator, asked)
    for number, [message] in enumerate(asked):
        assert alone[number] == reference.continue_ids(message["content"])
        ids = generator.encode([message])
        expected = reference.continue_text(message["content"]).strip()
        assert generator.completion(ids, alone[number]).text == expected


@pytest.mark.parametrize("kind", [Thinking(), Thinking(OPENED, "[THINK]", "[/THINK]", True)])
def test_reasoning_is_split_off_and_counted(
    home: Path, weights: Path, experiment: str, kind: Thinking
) -> None:
    key = hashlib.sha256(repr(kind).encode()).hexdigest()
    folder = in_store(home, "weights", key, lambda folder: kind.write(weights, folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    thinking = ThinkingModel(kind, folder, folder, tokenizer, reference)
    generator = load(thinking.log(TransformersModel, experiment))
    asked = conversations()
    alone = check_batched(generator, asked)
    for number, messages in enumerate(asked):
        prompt = generator.encode(messages)
        completion = generator.completion(prompt, alone[number])
        assert (completion.reasoning, completion.text) == thinking.answer(messages)
        assert completion.completion_tokens == len(alone[number])
    assert thinking.answer(asked[0])[0]


def test_text_keeps_what_mlflow_would_drop(variant: Variant, reference: Reference) -> None:
    force = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    generator = variant(lambda folder: edit_json(folder / "tokenizer_config.json", **{force: True}))
    prompt = generator.encode(user(QUESTIONS[0]))
    text = "Yes , it is n't . Is it ?"
    ids = reference.tokenizer.encode(text, add_special_tokens=False)
    rendered = reference.tokenizer.decode(prompt)
    assert (
        _get_completions_text(rendered, prompt + ids, generator._predictor.get_raw_model()) != text
    )
    assert generator.completion(prompt, ids).text == text


def test_unreadable_prompts_are_named_as_by_the_runtime(variant: Variant) -> None:
    def edit(folder: Path) -> None:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        added = {**tokenizer["added_tokens"][-1], "id": 1024, "content": "<extra>"}
        tokenizer["added_tokens"].append(added)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
        guard = "{% if messages[0].content == 'no' %}{{ raise_exception('not so') }}{% endif %}"
        edit_json(folder / "tokenizer_config.json", chat_template=guard + template)

    generator = variant(edit)
    for text, message in (
        ("an <extra> token", "has the token '<extra>', whose id is 1024"),
        (" ".join(TEXT), "and the model's context holds 512 with the completion"),
        ("no", "the model's chat template rejects these messages: not so"),
    ):
        with pytest.raises(MlflowException, match=message) as caught:
            generator.encode(user(text))
        assert caught.value.get_http_status_code() == 400
    readable = generator.encode(user(QUESTIONS[0]))
    assert generator.problem(readable) is None
    assert "1024" in (generator.problem([*readable, 1024]) or "")
