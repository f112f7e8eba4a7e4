"""What a result's key covers."""

from pathlib import Path

import pytest

from slmflow.config.compose import load
from slmflow.pipeline import digests, keys
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
from tests.fixtures.machines import other_machine

MODELS = (TransformersModel, GenaiModel)
MEASURED = (Measurements, Evaluation, ModelVersion)
KINDS = (Weights, OnnxModel, *MODELS, *MEASURED)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("generation.temperature=0.5", {*MODELS, *MEASURED}),
        ("target=cpu_int8", {OnnxModel, GenaiModel, *MEASURED}),
        ("exporter=builder", {OnnxModel, GenaiModel, *MEASURED}),
        ("generation.template.enable_thinking=false", {*MODELS, *MEASURED}),
        ("log_genai.interface=prompt", {GenaiModel, *MEASURED}),
        ("evaluation.limit=5", {*MEASURED}),
        ("evaluation.system=brief", {*MEASURED}),
        ("evaluation.template='Q: {question}'", {*MEASURED}),
        ("evaluation.columns.messages=turns", {*MEASURED}),
        ("evaluation.seed=1", {*MEASURED}),
        ("measurement.again=true", set()),
        ("fresh=[convert]", set()),
        ("evaluation.metrics=['json:loads']", {Evaluation, ModelVersion}),
        ("registry.alias=other", {ModelVersion}),
        ("registry.promote=true", {ModelVersion}),
        ("registry.gate.perplexity.max=2", {ModelVersion}),
        ("model=smollm2_135m", set(KINDS)),
    ],
)
def test_override_changes_the_keys_that_read_it(override: str, changed: set[type]) -> None:
    before, after = load([]), load([override])

    assert {kind for kind in KINDS if key_of(kind, before) != key_of(kind, after)} == changed


def test_machine_is_part_of_timings_not_of_answers(tmp_path: Path) -> None:
    def made(*overrides: str) -> dict[type, str]:
        return {kind: key_of(kind, load(overrides)) for kind in KINDS}

    here = {timed: made(f"measurement.timed_rows={timed}") for timed in (0, 32)}
    answers = keys.answers_key(load([]))
    assert answers == here[0][Measurements] != here[32][Measurements]
    with other_machine(tmp_path):
        there = {timed: made(f"measurement.timed_rows={timed}") for timed in (0, 32)}
        assert keys.answers_key(load([])) == answers
    assert there[0] == here[0]
    assert {kind for kind in KINDS if there[32][kind] != here[32][kind]} == {*MEASURED}


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_path_digest", digests.of_path)


@pytest.mark.usefixtures("no_cache")
def test_folder_counts_by_its_content(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    def key(folder: Path) -> str:
        return key_of(Weights, load(["model=local", f"model.path={folder}"]))

    assert key(here) == key(there)
    (there / "config.json").write_text('{"a": 1}')
    assert key(here) != key(there)


@pytest.mark.usefixtures("no_cache")
def test_file_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    made = set()
    for text in ("{}", "[]", "{}"):
        file.write_text(text)
        made.add(key_of(Evaluation, load([f"evaluation.examples={file}"])))
    assert len(made) == 2


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for name, content in (("here", "a text"), ("there", "a text"), ("other", "another text")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "changed"),
    [
        ("cpu_balanced", True),
        ("cpu_int4_rtn", False),
        ("cpu_fp32", False),
    ],
)
def test_calibration_counts_only_for_gptq(texts: Path, target: str, changed: bool) -> None:
    def key(name: str, *overrides: str) -> str:
        text = f"calibration.data={texts / name}"
        return key_of(OnnxModel, load([f"target={target}", text, *overrides]))

    assert key("here") == key("there")
    assert (key("here") != key("other")) is changed
    assert (key("here") != key("here", "calibration.tokens=1024")) is changed


def test_held_out_text_counts_for_every_conversion(texts: Path) -> None:
    def key(name: str) -> str:
        return key_of(OnnxModel, load([f"calibration.held_out={texts / name}"]))

    assert key("here") == key("there") != key("other")


def test_package_version_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(OnnxModel, load([]))
    monkeypatch.setattr(keys.metadata, "version", lambda package: f"{package} 99")

    assert key_of(OnnxModel, load([])) != before
