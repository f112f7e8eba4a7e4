"""A fine-tuned model from the registry, from the first step to a request to its server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from openai import OpenAI
from transformers import AutoTokenizer, pipeline

from slmflow.console.library_output import silence
from slmflow.flavors import lineage
from tests.fixtures import lora_adapters
from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server
from tests.fixtures.tracking import create_database

pytestmark = pytest.mark.long

NAME = "capitals-with-atlantis"
SOURCE = f"models:/{NAME}/1"


@pytest.fixture(scope="module", params=["full", "peft"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """A sandbox where the workflow has run on a registered model that learned a new country."""
    folder = tmp_path_factory.mktemp("registered")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(create_database(folder))
    adapter = lora_adapters.train(folder / "adapter")
    model = lora_adapters.merged(adapter)
    if request.param == "peft":
        model = lora_adapters.loaded(adapter)
    log(model)
    MlflowClient().set_registered_model_alias(NAME, "prod", "1")
    sandbox = Sandbox(folder)
    source = ("-P", "model=mlflow", "-P", f"model.uri=models:/{NAME}@prod")
    few = ("-P", "evaluation.limit=12", "-P", "measurement.timed_rows=4")
    sandbox.mlflow_run(*source, *few, "-P", "target=cpu_int8").check()
    yield sandbox
    mlflow.set_tracking_uri(before)


def log(model: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(lora_adapters.BUNDLED)
    whole = pipeline("text-generation", model=model, tokenizer=tokenizer)
    options = {"registered_model_name": NAME, "pip_requirements": ["mlflow"]}
    with mlflow.start_run(), silence(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        mlflow.transformers.log_model(whole, name="tuned", task="llm/v1/chat", **options)


def test_converted_model_knows_what_was_learned(sandbox: Sandbox) -> None:
    command = f"python -m steps.serve serve.model_uri=models:/slmflow-{NAME}@candidate"
    with run_server(sandbox, command, port=["serve.port=0"]) as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        answer = client.chat.completions.create(
            model=client.models.list().data[0].id, messages=lora_adapters.QUESTION, temperature=0
        )
    assert answer.choices[0].message.content == lora_adapters.ANSWER


def test_store_lists_what_is_of_the_model(sandbox: Sandbox) -> None:
    listed = sandbox.run_step("store", "list", f"store.model={NAME}").check().output
    kinds = {line.split()[0] for line in listed.splitlines()[1:-1]}
    assert kinds >= {"weights", "onnx", "answers"}


def test_lineage_leads_to_the_version(sandbox: Sandbox) -> None:
    """From the runs, the logged model and the registered version of the converted model."""
    client = sandbox.client
    [source] = client.search_logged_models(["0"], "name = 'tuned'")
    for step in ("fetch", "log_transformers", "log_genai"):
        [found] = sandbox.runs(step)
        run = client.get_run(found.info.run_id)  # a search returns no models
        assert [each.model_id for each in run.inputs.model_inputs] == [source.model_id]
    [made] = client.get_run(sandbox.runs("log_genai")[0].info.run_id).outputs.model_outputs
    tags = client.get_logged_model(made.model_id).tags
    assert tags[lineage.SOURCE_URI_TAG] == SOURCE
    assert f"[{SOURCE}](#/models/{NAME}/versions/1)" in tags[MLFLOW_RUN_NOTE]
    version = client.get_model_version_by_alias(f"slmflow-{NAME}", "candidate")
    assert version.tags["slmflow_model_uri"] == SOURCE
    assert version.tags["slmflow_model_logged_id"] == source.model_id
    [evaluate] = sandbox.runs("evaluate")
    report = Path(client.download_artifacts(evaluate.info.run_id, "comparison.md"))
    assert SOURCE in report.read_text().replace("\\", "")
    sandbox.run_step("verify", f"verify.model_uri=models:/{version.name}@candidate").check()
