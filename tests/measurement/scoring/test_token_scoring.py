"""Log-probabilities of token ids, compared with transformers' forward pass of each pair alone."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from transformers import AutoTokenizer, Lfm2Config, LlamaConfig

from slmflow.measurement.scoring import pipeline_scorer
from slmflow.measurement.scoring.pipeline_scorer import PipelineScorer
from slmflow.measurement.scoring.token_scoring import TokenScore, TokenScorer, find_token_scorer
from slmflow.pipeline.results import GenaiModel, TransformersModel
from slmflow.runtime.generation.genai import GenaiEngine
from slmflow.runtime.generation.genai_scorer import GenaiScorer
from slmflow.runtime.readings import TokenPair
from tests.conversion import architectures
from tests.conversion.architectures import END, FUSED, SIZES, UNFUSED
from tests.conversion.conversions import convert
from tests.fixtures.bundled_model import Reference

ARCHITECTURES = FUSED | {
    "llama_dynamic": LlamaConfig(
        **SIZES | {"max_position_embeddings": 128},
        rope_scaling={"rope_type": "dynamic", "factor": 4.0},
    ),
    "olmo_clipped": UNFUSED["olmo_clipped"],
    "lfm2": Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]),
}
CONVERTED = ("phi3", "phi3_longrope", "gemma3")

# One of each kind of attention and position stays among the fast tests.
FAST = ("phi3_longrope", "gemma2", "gemma3", "lfm2", "llama_dynamic")


def by_cost(names: Iterable[str]) -> list[Any]:
    """Return test parameters, those that are not fast marked as long."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.long) for name in names]


def random_pairs() -> list[TokenPair]:
    """Pairs of mixed lengths: with a long shared prefix, with the same context, and with neither.

    Lengths cross the windows of the test models and the original contexts of their LongRoPE.
    """
    random = np.random.default_rng(0)

    def tokens(length: int) -> list[int]:
        return random.integers(3, END, length).tolist()

    examples, question = tokens(90), tokens(30)
    pairs: list[TokenPair] = [(tokens(length), tokens(4)) for length in (1, 2, 40, 7, 130)]
    pairs += [(examples + tokens(length), tokens(1 + length % 5)) for length in (9, 30, 4, 11)]
    pairs += [(examples + question, [letter]) for letter in (65, 66, 67, 68)]
    pairs += [(examples + question, tokens(length)) for length in (1, 3, 6, 30)]
    pairs += [(examples, tokens(2)), (examples[:50], examples[50:60]), (question, [])]
    # The end token, which is the padding token too, ends a context and occurs in a continuation.
    pairs += [([*question, END], [5, END]), (question, [7, END, 9]), (question[:9], [END, 4])]
    return pairs


def expected_scores(model: Any, pairs: list[TokenPair]) -> list[TokenScore]:
    """Return the scores by one forward pass over each pair, alone and without a cache."""
    return [_expected_score(model, *pair) for pair in pairs]


def _expected_score(model: Any, context: list[int], continuation: list[int]) -> TokenScore:
    with torch.no_grad():
        ids = torch.tensor([[*context, *continuation]])
        logits = model(ids, use_cache=False).logits[0, len(context) - 1 : ids.shape[1] - 1]
    targets = torch.tensor(continuation, dtype=torch.long)
    chosen = logits.double().log_softmax(-1).gather(1, targets[:, None])
    return TokenScore(float(chosen.sum()), bool((logits.argmax(-1) == targets).all()))


def greedy_pair(model: Any, context: list[int], tokens: int) -> TokenPair:
    """Return a context with its greedy continuation."""
    return context, Reference(None, model).continue_prompt(context, tokens)


def check(scores: list[tuple[int, TokenScore]], expected: list[TokenScore]) -> None:
    assert sorted(index for index, _ in scores) == list(range(len(expected)))
    for index, score in scores:
        assert score == (pytest.approx(expected[index].logprob, abs=1e-4), expected[index][1])


def pipeline_scorer_of(model: Any, tokenizer: Any = None) -> PipelineScorer:
    """Return the scorer of a model of transformers, by default with the bundled tokenizer."""
    signature = ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA)
    metadata = Model(flavors={"transformers": {}}, signature=signature)
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(architectures.BUNDLED)
    pipeline = SimpleNamespace(tokenizer=tokenizer, model=model)
    loaded: Any = SimpleNamespace(metadata=metadata, get_raw_model=lambda: pipeline)
    return PipelineScorer(loaded)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that saves an architecture's model once."""

    @functools.cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("saved") / name
        return architectures.save_random_model(ARCHITECTURES[name], folder)

    return save


@pytest.mark.parametrize("name", by_cost(ARCHITECTURES))
def test_pipeline_scores_every_architecture_as_alone(
    saved: Callable[[str], Path], name: str
) -> None:
    # What transformers chooses by itself; it has no other attention for Gemma 2.
    model = architectures.load(saved(name), "eager" if name == "gemma2" else "sdpa")
    limit = model.config.max_position_embeddings
    pairs = [pair for pair in random_pairs() if len(pair[0]) + len(pair[1]) <= limit]
    pairs.append(greedy_pair(model, architectures.prompt(40), 5))
    expected = expected_scores(model, pairs)
    assert {score.is_greedy for score in expected} == {True, False}
    check(list(pipeline_scorer_of(model).score(pairs)), expected)


@pytest.mark.parametrize("name", by_cost(CONVERTED))
def test_genai_scores_architectures_as_transformers(
    saved: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    model = architectures.load(saved(name))
    convert(saved(name), tmp_path / "onnx", "cpu_fp32")
    # ONNX Runtime GenAI changes to the long factors of LongRoPE at 4096 tokens only.
    limit = getattr(model.config, "original_max_position_embeddings", 512)
    pairs = [pair for pair in random_pairs() if len(pair[0]) + len(pair[1]) <= limit]
    pairs.append(greedy_pair(model, architectures.prompt(40), 5))
    scores = GenaiScorer(GenaiEngine(tmp_path / "onnx")).score(pairs)
    check([(index, TokenScore(*rest)) for index, *rest in scores], expected_scores(model, pairs))


def test_little_memory_splits_continuations_and_batches(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_scorer, "_MAX_LOGITS_BYTES", 4 * 1024 * 12)
    monkeypatch.setattr(pipeline_scorer, "_MAX_CACHE_BYTES", 200_000)
    pairs = random_pairs()
    seen = []
    head = reference.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, inputs, out: seen.append(out.shape[:-1].numel()))
    scores = list(pipeline_scorer_of(reference.model).score(pairs))
    handle.remove()
    check(scores, expected_scores(reference.model, pairs))
    assert max(seen) == 4


@pytest.fixture(params=["pipeline", "chat"])
def scorer(request: pytest.FixtureRequest) -> TokenScorer:
    """The scorer of the bundled model as logged, in each flavor."""
    logged: GenaiModel | TransformersModel = request.getfixturevalue(request.param)
    found = find_token_scorer(mlflow.pyfunc.load_model(logged.model_uri))
    assert found is not None
    return found


def test_both_flavors_score_as_transformers(scorer: TokenScorer, reference: Reference) -> None:
    pairs = random_pairs()
    pairs.append(greedy_pair(reference.model, reference.prompt([user("Hi")]), 5))
    expected = expected_scores(reference.model, pairs)
    assert expected[-1].is_greedy
    check(list(scorer.score(pairs)), expected)
    assert list(scorer.score([])) == []


def test_invalid_pairs_are_rejected_before_scoring(scorer: TokenScorer) -> None:
    assert scorer.context_length == 512
    for pair, problem in [
        (([], [5]), "no tokens"),
        (([5] * 500, [6] * 13), "500 and 13 tokens.*holds 512"),
        (([5, 1024], [6]), "vocabulary has only 1024"),
    ]:
        with pytest.raises(MlflowException, match=problem) as raised:
            scorer.score([([5], [6]), pair])
        assert raised.value.get_http_status_code() == 400
    assert len(list(scorer.score([([5] * 500, [6] * 12)]))) == 1


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


@pytest.fixture
def fed_to_pipeline(reference: Reference) -> Iterator[list[int]]:
    """The number of tokens in each forward pass, padding included."""
    fed: list[int] = []
    embeddings = reference.model.get_input_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].numel()))
    yield fed
    handle.remove()


@pytest.fixture
def fed_to_genai(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens in each call that reads some, padding included."""
    fed: list[int] = []
    append = GenaiEngine.append

    def record(engine: GenaiEngine, generator: Any, texts: list[list[int]]) -> None:
        fed.append(len(texts) * max(map(len, texts)))
        append(engine, generator, texts)

    monkeypatch.setattr(GenaiEngine, "append", record)
    return fed


def few_shot(questions: int) -> list[TokenPair]:
    examples = architectures.prompt(300)
    return [(examples + architectures.prompt(10, seed), [5]) for seed in range(questions)]


def test_pipeline_reads_examples_once(reference: Reference, fed_to_pipeline: list[int]) -> None:
    list(pipeline_scorer_of(reference.model).score(few_shot(20)))
    assert fed_to_pipeline == [300, 20 * 10]


def test_genai_reads_examples_once(onnx: Path, fed_to_genai: list[int]) -> None:
    list(GenaiScorer(GenaiEngine(onnx)).score(few_shot(20)))
    assert fed_to_genai == [310] + 19 * [10]


def test_pipeline_reads_nested_prefixes_once(
    reference: Reference, fed_to_pipeline: list[int]
) -> None:
    """A system message for all, and the examples of each subject."""
    system, subjects = architectures.prompt(100), [architectures.prompt(80, n) for n in (1, 2)]
    pairs: list[TokenPair] = [
        (system + subject + architectures.prompt(10, seed), [5])
        for seed in range(4)
        for subject in subjects
    ]
    scores = list(pipeline_scorer_of(reference.model).score(pairs))
    assert fed_to_pipeline == [100, 80, 4 * 10, 80, 4 * 10]
    check(scores, expected_scores(reference.model, pairs))


def test_pipeline_reads_a_context_once_for_its_choices(
    reference: Reference, fed_to_pipeline: list[int]
) -> None:
    question = architectures.prompt(50)
    letters: list[TokenPair] = [(question, [letter]) for letter in range(60, 86)]
    texts: list[TokenPair] = [(question, architectures.prompt(4, seed)) for seed in range(5)]
    list(pipeline_scorer_of(reference.model).score(letters))
    list(pipeline_scorer_of(reference.model).score(texts))
    assert fed_to_pipeline == [50, 49, 5 * 4]


def test_genai_reads_a_prompt_once_for_all_letters(onnx: Path, fed_to_genai: list[int]) -> None:
    question = architectures.prompt(50)
    list(GenaiScorer(GenaiEngine(onnx)).score([(question, [n]) for n in range(60, 86)]))
    assert fed_to_genai == [50]


def test_genai_batches_short_prompts(onnx: Path, fed_to_genai: list[int]) -> None:
    pairs = [(architectures.prompt(20, n), architectures.prompt(6, n)) for n in range(32)]
    list(GenaiScorer(GenaiEngine(onnx)).score(pairs))
    assert fed_to_genai == [32 * 20]
