"""The keys of adapters: which combinations are valid, and what each value names."""

import shutil
from pathlib import Path

import pytest

from slmflow.config import compose as configs
from slmflow.errors import BadArguments
from slmflow.pipeline.keys import base_weights_key, key_of
from slmflow.pipeline.results import Weights

COMMIT = "1f0c" * 10
SEPARATE = "model.adapter_mode=separate"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "my-adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.adapter=/nowhere"], "model.adapter='/nowhere': there is no folder"),
        (["model.adapter=a/b", "model.adapter_revision=main"], "'main' is not a pinned revision"),
        (["model.adapter=a b/c", f"model.adapter_revision={COMMIT}"], "is not a hub id"),
        ([f"model.adapter_revision={COMMIT}"], "has an effect only with model.adapter"),
        (["model.adapter=models:/"], "is not the URI of a model in MLflow"),
        ([SEPARATE], "needs model.adapter or model.adapters.NAME"),
        (["model.adapters.a=x/y@1f0c", SEPARATE], "model.adapters.a='1f0c' is not a pinned"),
        ([f"model.adapters.a=x/y@{COMMIT}"], "only with model.adapter_mode=separate"),
        (
            [f"model.adapters.tiny_phi3=x/y@{COMMIT}", SEPARATE],
            "the name 'tiny_phi3' must .* differ from the model's",
        ),
        (
            [f"model.adapters.a=x/y@{COMMIT}", SEPARATE, "target=cuda_fp16"],
            "adapter_mode=separate is supported on CPUs in fp32 only",
        ),
        (
            ["model.adapter=models:/lora/1", "exporter=builder"],
            "exporter=builder reads the weights itself",
        ),
    ],
)
def test_invalid_combination_is_rejected(overrides: list[str], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        configs.load(overrides)


def test_sources_have_names(adapter: Path) -> None:
    values = [
        f"model.adapters.{name}={value}"
        for name, value in (
            ("local", adapter),
            ("hub", f"owner/lora@{COMMIT}"),
            ("registered", "models:/lora@champion"),
        )
    ]
    sources = configs.load([SEPARATE, f"model.adapter={adapter}", *values]).model.adapter_sources
    assert list(sources) == ["my-adapter", "local", "hub", "registered"]
    assert (sources["hub"].source, sources["hub"].revision) == ("owner/lora", COMMIT)
    assert sources["registered"].source == "models:/lora@champion"
    assert sources["registered"].is_in_mlflow
    assert sources["local"].name == f"model.adapters.local={str(adapter)!r}"


@pytest.mark.parametrize(
    ("source", "suffix"),
    [("models:/my.lora/3", "my.lora"), ("models:/lora@best", "lora"), ("models:/m-1f", "m-1f")],
)
def test_adapted_model_has_a_registered_name_of_its_own(source: str, suffix: str) -> None:
    config = configs.load([f"model.adapter={source}"])
    assert config.registry.name == f"slmflow-tiny_phi3-{suffix}"
    assert configs.load([]).registry.name == "slmflow-tiny_phi3"


def test_key_depends_on_the_content_of_adapters(adapter: Path) -> None:
    overrides = [SEPARATE, f"model.adapters.a={adapter}"]
    before = key_of(Weights, configs.load(overrides))
    assert before != key_of(Weights, configs.load([]))
    # One copy of the base model serves all adapters.
    base = base_weights_key(configs.load(overrides))
    assert base == key_of(Weights, configs.load([])) == base_weights_key(configs.load([]))
    moved = adapter.rename(adapter.with_name("moved"))
    assert key_of(Weights, configs.load([SEPARATE, f"model.adapters.a={moved}"])) == before
    other = shutil.copytree(moved, moved.with_name("other"))
    (other / "adapter_config.json").write_text("{ }")
    assert key_of(Weights, configs.load([SEPARATE, f"model.adapters.a={other}"])) != before


def test_separate_adapters_name_the_registered_model(tmp_path: Path) -> None:
    adapters = [f"model.adapters.{name}={tmp_path}" for name in ("terse", "french")]
    config = configs.load(["model.adapter_mode=separate", *adapters])
    assert config.registry.name == "slmflow-tiny_phi3-french-terse"
