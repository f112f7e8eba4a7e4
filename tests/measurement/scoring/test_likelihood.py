"""Likelihoods of rows in both flavors, compared with transformers, one row at a time."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from slmflow.config import compose as configs
from slmflow.datasets import rows as dataset
from slmflow.datasets.multiple_choice import build_prompt, choice_letters
from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import request_completion
from slmflow.measurement.records import Likelihood
from slmflow.measurement.scoring.likelihood import RowScore, score_rows
from slmflow.paths import PROJECT
from slmflow.pipeline.results import LoggedModel
from tests.fixtures.bundled_model import Reference
from tests.measurement.models.logged import save_model
from tests.measurement.scoring.test_token_scoring import pipeline_scorer_of, user

TINY_PHI3 = PROJECT / "bundled/tiny_phi3"
COUNTRIES = ("France", "Italy", "Norway", "Spain", "Japan", "Nepal", "Peru")
TOO_LONG = Row([user("word " * 600)], "Yes.")
INVALID = Row([{"role": "robot", "content": "Hi"}], "Yes.")


def question(country: str, answer: str) -> Row:
    return Row([user(f"What is the capital of {country}?")], answer)


def plain_rows() -> list[Row]:
    """Rows of mixed lengths, with and without a shared beginning."""
    rows = [question(country, "It may be Oslo.") for country in COUNTRIES]
    turns = [user("Of France?"), {"role": "assistant", "content": "Paris."}, user("Of Italy?")]
    system = {"role": "system", "content": "Be brief."}
    return [*rows, Row(turns, "Rome."), Row([system, *turns], "日本"), question("Peru", "")]


def few_shot_rows() -> list[Row]:
    """Rows of which each begins with the same examples, longer than its question."""
    examples = [
        turn
        for country, city in zip(COUNTRIES, ("Paris", "Rome", "Oslo"), strict=False)
        for turn in (
            user(f"What is the capital of {country}?"),
            {"role": "assistant", "content": f"The capital of {country} is {city}."},
        )
    ]
    return [
        Row([*examples, *question(country, "").messages], answer)
        for country in COUNTRIES[3:]
        for answer in ("Madrid.", f"The capital of {country} is Lima.")
    ]


def choice_rows() -> list[Row]:
    """Multiple-choice rows with 2, 5 and 26 choices."""
    return [
        Row([user(build_prompt(f"Which is number {count}?", choices))], letter, choices)
        for count, letter in ((2, "B"), (5, "A"), (26, "Z"))
        for choices in [[f"{n}" for n in range(count)]]
    ]


def scored(model: PyFuncModel, rows: list[Row]) -> list[RowScore]:
    """Return the score of each row; check that each row comes once."""
    scores = score_rows(model, {10 * number: row for number, row in enumerate(rows)})
    assert scores is not None
    found = [(number, (likelihood, logprobs)) for number, likelihood, logprobs in scores]
    assert sorted(number for number, _ in found) == [10 * number for number in range(len(rows))]
    return [dict(found)[10 * number] for number in range(len(rows))]


def expected_score(reference: Reference, row: Row) -> RowScore:
    """Return a row's score by transformers' forward passes of single texts."""
    letters = choice_letters(row.choices) if row.choices else None
    logprob, tokens = reference.score(row.messages, row.answer)
    own = Likelihood(pytest.approx(logprob, abs=1e-4), tokens)
    if letters is None:
        return own, None
    logprobs = [reference.score(row.messages, letter)[0] for letter in letters]
    return own, pytest.approx(tuple(logprobs), abs=1e-4)


@pytest.fixture(scope="module", params=["pipeline", "chat", "prompted"])
def model(request: pytest.FixtureRequest) -> PyFuncModel:
    """The bundled model as logged, in each flavor and interface."""
    logged: LoggedModel = request.getfixturevalue(request.param)
    return mlflow.pyfunc.load_model(logged.model_uri)


@pytest.mark.parametrize("rows", [plain_rows(), few_shot_rows(), choice_rows()], ids=len)
def test_rows_are_scored_as_by_transformers(
    model: PyFuncModel, reference: Reference, rows: list[Row]
) -> None:
    assert scored(model, rows) == [expected_score(reference, row) for row in rows]


def test_rejected_rows_leave_the_others_as_they_are(
    model: PyFuncModel, reference: Reference
) -> None:
    good = plain_rows()[:3]
    rejected = (Likelihood(0.0, 0), None)
    scores = scored(model, [good[0], TOO_LONG, good[1], INVALID, good[2]])
    assert scores[1] == scores[3] == rejected
    assert scores[::2] == [expected_score(reference, row) for row in good]


def test_row_that_the_template_rejects_is_kept(pipeline: LoggedModel) -> None:
    model = mlflow.pyfunc.load_model(pipeline.model_uri)
    tokenizer = model.get_raw_model().tokenizer
    [row] = plain_rows()[:1]
    before = scored(model, [row])
    strict = "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}"
    tokenizer.chat_template = strict + tokenizer.chat_template
    assert scored(model, [plain_rows()[-2], row]) == [(Likelihood(0.0, 0), None), *before]


@pytest.mark.usefixtures("tracking")
def test_model_with_only_a_score_method_is_scored_row_by_row(tmp_path: Path) -> None:
    """As a GenAI model that an older version logged."""
    logged = save_model(tmp_path / "model", "chat_model.py")
    model = mlflow.pyfunc.load_model(logged.model_uri)
    rows = {4: choice_rows()[0], 2: question("Peru", "Lima.")}
    half = math.log(0.5)
    scores = score_rows(model, rows)
    assert scores is not None
    found = {number: (likelihood.logprob, choices) for number, likelihood, choices in scores}
    assert found == {4: (half, (half, half)), 2: (half, None)}


def test_bundled_questions_are_scored_alike_by_both_flavors(
    pipeline: LoggedModel, chat: LoggedModel
) -> None:
    rows = dataset.read(configs.load(["evaluation.limit=40"]))
    one, other = (scored(mlflow.pyfunc.load_model(m.model_uri), rows) for m in (pipeline, chat))
    for (a, _), (b, _) in zip(one, other, strict=True):
        assert a == Likelihood(pytest.approx(b.logprob, abs=1e-4), b.tokens)


def test_only_the_template_writes_the_bos_token(tmp_path: Path) -> None:
    """Llama's tokenizer adds a BOS token, and so does its chat template."""
    folder = tmp_path / "llama"
    shutil.copytree(TINY_PHI3, folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config |= {"add_bos_token": True, "chat_template": "{{bos_token}}" + config["chat_template"]}
    file.write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    context, continuation = pipeline_scorer_of(model, tokenizer).encode([user("Hi")], "Paris.")
    assert context.count(tokenizer.bos_token_id) == 1
    assert continuation == tokenizer.encode("Paris.", add_special_tokens=False)


@pytest.mark.usefixtures("tracking")
def test_pipeline_logged_without_slmflow_scores_like_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    mlflow.transformers.save_model(
        str(TINY_PHI3),
        tmp_path / "model",
        task="llm/v1/chat",
        pip_requirements=["transformers"],
        model_config={"max_new_tokens": 4, "do_sample": False},
    )
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    rows = plain_rows()[:-1]
    assert 1 <= (request_completion(model, rows[0].messages).completion_tokens or 0) <= 4
    assert request_completion(model, rows[0].messages, max_tokens=1).completion_tokens == 1
    likelihoods = [likelihood for likelihood, _ in scored(model, rows)]
    assert [each.logprob for each in likelihoods] == pytest.approx(
        _independent_logprobs(rows), rel=1e-4
    )
    assert min(each.tokens for each in likelihoods) > 1


def _independent_logprobs(rows: list[Row]) -> list[float]:
    """Return the log-probabilities from transformers' mean loss over the answer tokens."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(TINY_PHI3)
    model: Any = AutoModelForCausalLM.from_pretrained(TINY_PHI3)
    logprobs = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(
            row.messages, add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer.encode(row.answer, add_special_tokens=False)
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            mean = model(torch.tensor([prompt + answer]), labels=labels).loss
        logprobs.append(-float(mean) * len(answer))
    return logprobs
