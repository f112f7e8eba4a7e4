"""Checkpoints that others logged to MLflow with the transformers flavor."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from slmflow.checkpoints.registry_model import RegistryModel
from slmflow.config import compose as configs
from slmflow.config.schema.model import Model, Source
from slmflow.console.library_output import silence
from slmflow.errors import BadArguments, UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Weights
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run
from steps.fetch import fetch_checkpoint
from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub
from tests.fixtures.tracking import create_database

BUNDLED = str(PROJECT / "bundled" / "tiny_phi3")
NAME = "my-finetuned"
MESSAGES = [{"role": "user", "content": "What is the capital of Peru?"}]


@contextmanager
def tracked(folder: Path) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(create_database(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
    mlflow.set_tracking_uri(before)


def tuned() -> tuple[Any, Any]:
    """Return the bundled model with other weights, as training leaves it, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(BUNDLED)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.01)
    return model, AutoTokenizer.from_pretrained(BUNDLED)


def log(logged: Any, **options: Any) -> str:
    """Log a model in a run of its own; return its URI."""
    with mlflow.start_run(), silence():
        options = {"name": "tuned", "pip_requirements": ["mlflow"]} | options
        return str(mlflow.transformers.log_model(logged, **options).model_uri)


def log_pipeline() -> str:
    model, tokenizer = tuned()
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    return log(whole, task="llm/v1/chat")


def log_components() -> str:
    """In bfloat16, and without a task of MLflow's own."""
    model, tokenizer = tuned()
    return log({"model": model.to(torch.bfloat16), "tokenizer": tokenizer}, task="text-generation")


def log_shards() -> str:
    model, tokenizer = tuned()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE", "2MB")
        return log({"model": model, "tokenizer": tokenizer}, task="text-generation")


def log_folder() -> str:
    return log(BUNDLED, task="llm/v1/chat", torch_dtype="torch.float32")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("registry_model")
    with tracked(folder):
        yield folder


@pytest.fixture(scope="module")
def logged(server: Path) -> str:
    """The URI of a logged model, which is version 1 of `NAME` and has the alias `prod`."""
    uri = log_pipeline()
    with silence():
        mlflow.register_model(uri, NAME)
    MlflowClient().set_registered_model_alias(NAME, "prod", "1")
    return uri


def fetch(uri: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    fetch_checkpoint(Model("tuned", Source.mlflow, uri=uri), folder)
    return folder


def assert_same_model(folder: Path, uri: str) -> None:
    """Compare a checkpoint with the pipeline that MLflow loads: weights, tokens and prompt."""
    with silence():
        expected = mlflow.transformers.load_model(uri)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights, others = model.state_dict(), expected.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name].to(weights[name])) for name in weights)
    prompts = [
        each.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
        for each in (tokenizer, expected.tokenizer)
    ]
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize("log_model", [log_pipeline, log_components, log_shards, log_folder])
def test_logged_model_is_fetched_whole(
    server: Path, tmp_path: Path, log_model: Callable[[], str]
) -> None:
    uri = log_model()
    folder = fetch(uri, tmp_path / "checkpoint")
    assert_same_model(folder, uri)
    stored = json.loads((folder / "config.json").read_text())["dtype"]
    assert stored == ("bfloat16" if log_model is log_components else "float32")
    assert len(list(folder.glob("*.safetensors"))) == (5 if log_model is log_shards else 1)


def test_settings_of_requests_are_named(
    server: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = tuned()
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    options = {"prompt_template": "Q: {prompt}", "model_config": {"max_new_tokens": 5}}
    fetch(log(whole, task="text-generation", **options), tmp_path / "checkpoint")
    assert "was logged with prompt_template, max_new_tokens: the" in capsys.readouterr().err


def test_key_is_of_the_model_not_of_its_uri(logged: str) -> None:
    def key(uri: str) -> str:
        return key_of(Weights, configs.load(["model=mlflow", f"model.uri={uri}"]))

    run_id = mlflow.get_logged_model(logged.removeprefix("models:/")).source_run_id
    same = [logged, f"runs:/{run_id}/tuned", *(f"models:/{NAME}{v}" for v in ("/1", "@prod"))]
    assert len({key(uri) for uri in same}) == 1
    assert key(log_folder()) != key(logged)


@pytest.mark.parametrize("version", ["@prod", "/latest", "/1"])
def test_alias_is_pinned_to_a_version(
    logged: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the step and for all that it launches."""
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path))
    steps: list[Step] = []
    arguments = [f"model.uri=models:/{NAME}{version}", "model=mlflow"]

    assert run("fetch", steps.append, arguments) == 0

    [step] = steps
    assert step.config.model.uri == f"models:/{NAME}/1"
    assert (step.config.model.name, step.config.registry.name) == (NAME, f"slmflow-{NAME}")
    assert configs.load(step.overrides) == step.config


def test_model_of_a_run_is_fetched(logged: str, tmp_path: Path) -> None:
    run_id = mlflow.get_logged_model(logged.removeprefix("models:/")).source_run_id
    by_run, by_id = fetch(f"runs:/{run_id}/tuned", tmp_path / "a"), fetch(logged, tmp_path / "b")
    for file in by_id.iterdir():
        assert (by_run / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("models:/phi-3.5-tuned/3", "phi-3.5-tuned"),
        ("models:/main.ml.tuned@prod", "tuned"),
        ("models://profile@databricks/tuned/3", "tuned"),
        ("models:/m-0123456789abcdef", "m-0123456789abcdef"),
        ("runs:/0123456789abcdef/checkpoints/best", "checkpoints-best-01234567"),
    ],
)
def test_model_is_named_after_its_uri(uri: str, name: str) -> None:
    assert configs.load(["model=mlflow", f"model.uri={uri}"]).model.name == name


@pytest.mark.parametrize("uri", ["", "tuned", "/srv/tuned", "s3://bucket/tuned", "models:/a b/1"])
def test_other_addresses_are_rejected(uri: str) -> None:
    with pytest.raises(BadArguments, match=r"model.uri=.* is not the URI of a model in MLflow"):
        configs.load(["model=mlflow", f"model.uri={uri}"])


def test_uri_without_the_model_mlflow_is_rejected() -> None:
    with pytest.raises(BadArguments, match="has an effect only with model=mlflow"):
        configs.load(["model.uri=models:/tuned/1"])


def test_missing_model_is_rejected(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri in ("models:/nobody@prod", "models:/nobody/1", "models:/m-0", "runs:/0/model"):
        with pytest.raises(BadArguments, match=f"model.uri='{uri}': no model can be read") as told:
            RegistryModel.read(model_uris.pin("model.uri", uri))
        assert "the page Models has registered models" in str(told.value)
        assert "run the workflow" not in str(told.value)


def edit_flavor(folder: Path, **fields: Any) -> None:
    """Change fields of the transformers flavor in MLmodel; None removes one."""
    metadata = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = metadata["flavors"]["transformers"] | fields
    metadata["flavors"]["transformers"] = {k: v for k, v in flavor.items() if v is not None}
    (folder / "MLmodel").write_text(yaml.safe_dump(metadata))


def pickle_weights(folder: Path) -> None:
    (folder / "model" / "model.safetensors").rename(folder / "model" / "pytorch_model.bin")


def link_outside(folder: Path) -> None:
    (folder / "model" / "config.json").unlink()
    (folder / "model" / "config.json").symlink_to(PROJECT / "bundled/tiny_phi3/config.json")


def other_task(folder: Path) -> None:
    edit_flavor(folder, task="fill-mask")


def path_outside(folder: Path) -> None:
    edit_flavor(folder, model_binary="../model")


def no_weights(folder: Path) -> None:
    edit_flavor(folder, model_binary=None, source_model_name="google/gemma-3-1b-it")


def weights_elsewhere(folder: Path) -> None:
    edit_flavor(folder, model_binary=None, local_base_model_path="/srv/base")


def no_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "components")


def code_in_config(folder: Path) -> None:
    file = folder / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_attn_implementation": "a/b"}))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (pickle_weights, r"only as pickles \(pytorch_model.bin\)"),
        (link_outside, "config.json of .* points to .* outside of the model's folder"),
        (other_task, "pipeline for the task 'fill-mask'"),
        (path_outside, r"'../model' is not the name of a folder"),
        (no_weights, r"save_pretrained=False.*no commit.*persist_pretrained_model"),
        (weights_elsewhere, "names the folder '/srv/base' of the machine that logged it"),
        (no_tokenizer, "has no tokenizer"),
        (code_in_config, "_attn_implementation='a/b', which can load code"),
    ],
)
def test_unusable_model_is_rejected(
    logged: str, tmp_path: Path, edit: Callable[[Path], None], message: str
) -> None:
    """As copies in the artifacts of a run, where MLflow 2 kept models."""
    saved = Path(model_uris.artifact_repository(logged).download_artifacts("", None))
    with mlflow.start_run() as active:
        copy = Path(active.info.artifact_uri.removeprefix("file://"), "copy")
        shutil.copytree(saved, copy)
        edit(copy)
    with pytest.raises(UserError, match=message):
        fetch(f"runs:/{active.info.run_id}/copy", tmp_path / "checkpoint")
    assert not list((tmp_path / "checkpoint").glob("*.bin"))


def test_other_flavors_are_rejected(server: Path) -> None:
    with mlflow.start_run(), silence():
        code = PROJECT / "tests/measurement/models/mlflow_chat_model.py"
        info = mlflow.pyfunc.log_model(name="a", python_model=str(code), pip_requirements=[])
    with pytest.raises(UserError, match=r"has the flavor pyfunc.*mlflow\.transformers\.log_model"):
        RegistryModel.read(info.model_uri)


@pytest.mark.long
def test_weights_of_a_named_commit_come_from_the_hub(
    logged: str, hub: FakeHub, run_python: RunPython, tmp_path: Path
) -> None:
    """Of a model that was logged with `save_pretrained=False`."""
    saved = Path(model_uris.artifact_repository(logged).download_artifacts("", None))
    copy = shutil.copytree(saved, tmp_path / "copy", ignore=shutil.ignore_patterns("model"))
    edit_flavor(
        copy,
        **{"model_binary": None, "source_model_name": MODEL, "source_model_revision": REVISION},
        **{"tokenizer_name": MODEL, "tokenizer_revision": REVISION},
    )
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    client.log_artifacts(run_id, str(copy), "copy")

    arguments = ("-m", "steps.fetch", "model=mlflow", f"model.uri=runs:/{run_id}/copy")
    process = run_python(*arguments, HF_ENDPOINT=hub.url)

    assert process.returncode == 0, process.stderr
    assert f"{MODEL}: 5 files" in process.stderr
