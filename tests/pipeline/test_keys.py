"""Keys: what they depend on, and what not."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config.compose import load
from slmflow.pipeline import keys, results
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import (
    Evaluation,
    GenaiModel,
    Measurements,
    ModelVersion,
    OnnxModel,
    TransformersModel,
    Weights,
)
from tests.measurement.models.logged import log_model

MODELS = (TransformersModel, GenaiModel)
MEASURED = (Measurements, Evaluation, ModelVersion)
KINDS = (Weights, OnnxModel, *MODELS, *MEASURED)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("generation.temperature=0.5", {*MODELS, *MEASURED}),
        ("target=cpu_int8", {OnnxModel, GenaiModel, *MEASURED}),
        ("exporter=builder", {OnnxModel, GenaiModel, *MEASURED}),
        ("log_genai.interface=prompt", {GenaiModel, *MEASURED}),
        ("evaluation.limit=5", {*MEASURED}),
        ("evaluation.system=brief", {*MEASURED}),
        ("evaluation.template='Q: {question}'", {*MEASURED}),
        ("evaluation.columns.messages=turns", {*MEASURED}),
        ("evaluation.seed=1", {*MEASURED}),
        ("evaluation.metrics=['json:loads']", {Evaluation, ModelVersion}),
        ("registry.alias=other", {ModelVersion}),
        ("registry.promote=true", {ModelVersion}),
        ("registry.gate.perplexity.max=2", {ModelVersion}),
        ("model=smollm2_135m", set(KINDS)),
    ],
)
def test_a_key_changes_with_what_its_step_reads(override: str, changed: set[type]) -> None:
    before, after = load([]), load([override])

    assert {kind for kind in KINDS if key_of(kind, before) != key_of(kind, after)} == changed


def test_a_path_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def key(folder: Path) -> str:
        monkeypatch.setattr(keys, "_digest", keys.store.digest)  # without its cache
        return key_of(Weights, load(["model=local", f"model.path={folder}"]))

    assert key(here) == key(there)
    (there / "config.json").write_text('{"a": 1}')
    assert key(here) != key(there)


def test_examples_count_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_digest", keys.store.digest)  # without its cache
    file = tmp_path / "examples.jsonl"
    made = set()
    for text in ("{}", "[]", "{}"):
        file.write_text(text)
        made.add(key_of(Evaluation, load([f"evaluation.examples={file}"])))
    assert len(made) == 2


def test_a_key_changes_with_a_package_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(OnnxModel, load([]))
    monkeypatch.setattr(keys.metadata, "version", lambda package: f"{package} 99")

    assert key_of(OnnxModel, load([])) != before


@pytest.mark.parametrize("name", ["work.py", "deeper/work.py", "page.html.jinja"])
def test_a_key_changes_with_a_file_of_the_steps_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(keys, "PROJECT", tmp_path)
    digest = keys.source_digest.__wrapped__  # without its cache
    file = tmp_path / "steps" / "bake" / name
    file.parent.mkdir(parents=True)
    file.write_text("one")
    before = digest("bake")
    file.write_text("two")
    assert digest("bake") != before


def test_a_result_survives_json() -> None:
    @dataclass(frozen=True)
    class Numbers(results.Result):
        step: ClassVar = "numbers"
        text: str
        count: int

    made = Numbers("a", 3)

    assert Numbers.from_json(made.to_json()) == made


@pytest.mark.usefixtures("tracking")
def test_a_model_that_was_deleted_is_made_anew() -> None:
    """Its files are still there: it is what `verify` says to do with one that was altered."""
    with mlflow.start_run():
        model = log_model(GenaiModel, "chat_model.py")
    model.check()

    MlflowClient().delete_logged_model(model.model_id)

    with pytest.raises(results.Stale, match="no longer exists"):
        model.check()
