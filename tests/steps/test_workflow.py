"""The whole workflow through `mlflow run`, and the reuse of its results."""

import json
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from openai import OpenAI

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.config.schema.model import Source
from slmflow.metrics.model_metrics import COLUMNS, METRIC_COLUMNS
from slmflow.paths import PROJECT
from slmflow.pipeline.runs import STEP
from slmflow.sweeps.context import POINT, SHARED_MEASUREMENT
from tests.fixtures.project import Sandbox
from tests.fixtures.readme import COMMANDS
from tests.fixtures.server import post_chat, run_server
from tests.fixtures.tracking import read_table

STEPS = ["fetch", "convert", "log_transformers", "log_genai", "measure", "evaluate", "register"]
FEW_ROWS = ("-P", "evaluation.limit=12")

# Distinct values, so that a leaked one shows which variable it came from.
SECRETS = {
    name: f"{name.lower().replace('_', '')}NeverShown"
    for name in (
        *("HF_TOKEN", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_SECRET", "OPENAI_API_KEY"),
        *("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
        *("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_CLIENT_SECRET"),
    )
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox where the workflow has run once, with the uv environment manager."""
    folder = tmp_path_factory.mktemp("workflow")
    sandbox = Sandbox(folder, SECRETS, has_database=False)
    sandbox.mlflow_run(*FEW_ROWS, manager="uv").check()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(sandbox.environ()["MLFLOW_TRACKING_URI"])
    yield sandbox
    mlflow.set_tracking_uri(before)


def test_parent_run_has_a_child_for_each_step(sandbox: Sandbox) -> None:
    parent = sandbox.runs("main")[-1]
    children = [sandbox.runs(step)[-1] for step in STEPS]

    assert parent.info.status == "FINISHED"
    assert {child.info.status for child in children} == {"FINISHED"}
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert parent.data.params["target.name"] == "cpu_int4"


def test_comparison_is_on_the_parent_run(sandbox: Sandbox) -> None:
    run_id = sandbox.runs("main")[-1].info.run_id
    transformers, genai = read_table(run_id)

    assert list(genai) == list(COLUMNS)
    assert (transformers["flavor"], genai["flavor"]) == ("transformers", "genai")
    assert transformers["n"] == genai["n"] == 12
    assert transformers["agreement"] is None
    assert {column for column in METRIC_COLUMNS if genai[column] is None} == {"accuracy"}
    assert 0 <= genai["exact_match_low"] < genai["exact_match_high"] <= 1
    assert 0 < genai["exact_match_p"] <= 1
    assert transformers["exact_match"] >= 0.8
    assert genai["model_size_mb"] < transformers["model_size_mb"]
    assert "| `exact_match` |" in mlflow.artifacts.load_text(f"runs:/{run_id}/comparison.md")
    png = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/comparison.png"))
    assert png.read_bytes().startswith(b"\x89PNG")


def test_convert_logs_parity(sandbox: Sandbox) -> None:
    run = sandbox.runs("convert")[-1]
    metrics = run.data.metrics

    assert metrics["parity.tokenizer_mismatches"] == 0
    assert 0.5 < metrics["parity.top1_agreement"] <= 1
    assert metrics["parity.mean_kl"] > 0
    assert metrics["onnx_size_mb"] > 1
    assert {"parity.max_abs_diff", "convert.seconds", "convert.peak_rss_mb"} <= set(metrics)
    assert 0 < metrics["fidelity.mean_kl_low"] < metrics["fidelity.mean_kl_high"]
    assert metrics["fidelity.tokens"] == 2048
    record = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/conversion.json")
    assert {matched["name"] for matched in record["passes"]} >= {"attention", "norms"}


def test_better_flavor_is_registered(sandbox: Sandbox) -> None:
    version = sandbox.client.get_model_version_by_alias("slmflow-tiny_phi3", "candidate")
    result = mlflow.artifacts.load_dict(
        f"runs:/{sandbox.runs('register')[-1].info.run_id}/result.json"
    )

    assert str(version.version) == result["version"] == "1"
    assert result["flavor"] in ("transformers", "genai")
    serve = (
        f"mlflow run {PROJECT} --env-manager uv -e serve -P model_uri=models:/slmflow-tiny_phi3/1"
    )
    assert f"to serve it: {serve}\n" in "".join(sandbox.printed)
    assert "| `exact_match` |" in version.description


def test_second_run_reuses_every_step(sandbox: Sandbox) -> None:
    before = {step: len(sandbox.runs(step)) for step in STEPS}

    sandbox.mlflow_run(*FEW_ROWS).check()

    assert {step: len(sandbox.runs(step)) for step in STEPS} == before
    reused = sandbox.runs("main")[0].data.tags["slmflow.reused_from"]
    assert [part.split(":")[0] for part in reused.split(", ")] == STEPS
    first, second = sandbox.runs("main")[-1], sandbox.runs("main")[0]
    assert read_table(first.info.run_id) == read_table(second.info.run_id)


@pytest.mark.long
def test_new_temperature_reuses_the_conversion(sandbox: Sandbox) -> None:
    _run_reusing(sandbox, "convert", "log_genai", "generation.temperature=0.5")


@pytest.mark.long
def test_new_target_reuses_the_weights(sandbox: Sandbox) -> None:
    _run_reusing(sandbox, "fetch", "convert", "target=cpu_int8")


def test_new_metric_reuses_the_measurements(sandbox: Sandbox) -> None:
    overrides = ("evaluation.limit=12", "evaluation.metrics=[operator:eq]")

    metrics = _run_reusing(sandbox, "measure", "evaluate", *overrides).data.metrics

    assert metrics["genai.eq"] == metrics["genai.exact_match"]


def test_measurement_logs_the_machine(sandbox: Sandbox) -> None:
    params = sandbox.runs("measure")[0].data.params

    assert int(params["machine.cores"]) == os.cpu_count()
    assert params["machine.onnxruntime-genai"] == version("onnxruntime-genai")
    assert "CPUExecutionProvider" in params["machine.providers"]
    assert {"machine.cpu", "machine.memory", "machine.system"} <= set(params)


@pytest.mark.long
def test_sweep_measures_points_together(sandbox: Sandbox) -> None:
    new = ("-P", "evaluation.seed=1")
    points = ("-P", "log_genai.interface=chat,prompt")
    sandbox.mlflow_run(*FEW_ROWS, "-e", "sweep", *new, *points).check()

    sweep = sandbox.runs("sweep")[0].info.run_id
    [shared] = [each for each in _below(sandbox, sweep) if SHARED_MEASUREMENT in each.data.tags]
    measured = [r for r in _below(sandbox, shared.info.run_id) if r.data.tags[STEP] == "measure"]
    evaluated = [each for each in _below(sandbox, sweep) if POINT in each.data.tags]
    assert shared.data.params["log_genai.interface"] == "chat,prompt"
    assert {run.info.status for run in (shared, *measured, *evaluated)} == {"FINISHED"}
    assert len(measured) == len(evaluated) == 2
    for run in measured:
        assert any(run.info.run_id in each.data.tags["slmflow.reused_from"] for each in evaluated)
    models = [run.info.run_id for each in evaluated for run in _below(sandbox, each.info.run_id)]
    assert not any(mlflow.search_traces(run_id=each, return_type="list") for each in models)
    # The reference was measured once for both.
    assert len({each.data.metrics["transformers.latency_ms_p50"] for each in evaluated}) == 1
    interfaces = [row["log_genai.interface"] for row in read_table(sweep)]
    assert interfaces == ["chat", "chat", "prompt", "prompt"]


@pytest.mark.long  # tests/docs/test_deploy.py serves both from their files
def test_both_flavors_serve_the_same_text(sandbox: Sandbox) -> None:
    """`mlflow models serve` answers the same chat request."""
    request = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 32,
    }
    answers = {}
    for step in ("log_transformers", "log_genai"):
        run_id = sandbox.runs(step)[-1].info.run_id
        model_uri = mlflow.artifacts.load_dict(f"runs:/{run_id}/result.json")["model_uri"]
        with run_server(sandbox, f"mlflow models serve -m {model_uri} --env-manager local") as url:
            answers[step] = post_chat(url, request)

    texts = {step: answer["choices"][0]["message"]["content"] for step, answer in answers.items()}
    assert set(texts.values()) == {"The capital of France is Paris."}
    counts = [answer["usage"]["total_tokens"] for answer in answers.values()]
    assert counts[0] == counts[1]
    assert {answer["choices"][0]["finish_reason"] for answer in answers.values()} == {"stop"}


def test_readme_serves_the_registered_model(sandbox: Sandbox) -> None:
    """In the environment of the model, with the curl command of the page."""
    [serve] = [command for command in COMMANDS if command.startswith("mlflow models serve ")]
    [curl] = [command for command in COMMANDS if command.startswith("curl http")]
    address = "http://127.0.0.1:5000"
    assert address in curl

    with run_server(sandbox, serve.replace(" --port 5000", "")) as url:
        response = sandbox.run_shell(curl.replace(address, url))

    assert "The capital of France is Paris." in response.output


def test_readme_serves_openai_clients(sandbox: Sandbox) -> None:
    """The command of the page on a free port, with curl and with the OpenAI client."""
    [serve] = [each for each in COMMANDS if " -e serve " in each and "port=8000" in each]
    [curl] = [command for command in COMMANDS if command.startswith("curl -N")]
    serve = serve.replace("mlflow run .", f"mlflow run {PROJECT}").replace("port=8000", "port=0")

    with run_server(sandbox, serve, port=()) as url:
        streamed = sandbox.run_shell(curl.replace("http://127.0.0.1:8000", url))
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        [model] = client.models.list()
        question = "What is the capital of Japan?"
        completion = client.chat.completions.create(
            model=model.id, messages=[{"role": "user", "content": question}]
        )

    assert streamed.output.rstrip().endswith("data: [DONE]")
    assert model.id == "slmflow-tiny_phi3"
    assert "Tokyo" in (completion.choices[0].message.content or "")


def test_readme_runs_a_batch_job(sandbox: Sandbox) -> None:
    """The command of the page with the registered model and another output."""
    [batch] = [command for command in COMMANDS if " -e batch " in command]
    output = sandbox.folder / "answers.jsonl"
    command = batch.replace("mlflow run .", f"mlflow run {PROJECT}")

    sandbox.run_shell(command.replace("output=/tmp/answers.jsonl", f"output={output}")).check()

    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 195
    assert sum(row["said"] == row["answer"] for row in rows) >= 175
    assert {row["error"] for row in rows} == {None}


# These log and measure other models, convert for another target, or repeat what the tests of their
# step show.
LONG = (
    *("-P target=cpu_int8 ", "-e sweep", "target=cuda_int4", "steps.convert", "-e convert"),
    *("-e evaluate ", "-e verify ", "registry.gate."),
)

RUN = [
    pytest.param(
        command,
        marks=pytest.mark.long if any(each in command for each in LONG) else (),
    )
    for command in COMMANDS
    if command.startswith(("mlflow run", "python"))
    and " -e serve " not in command
    and " -e batch " not in command
]


@pytest.mark.parametrize("command", RUN)
def test_readme_commands_run(sandbox: Sandbox, command: str) -> None:
    """On few rows; one that needs the hub, or a model of the user's, must at least compose."""
    words = command.replace(" model_uri=", " evaluation.model_uri=").split()  # MLproject's name
    texts = overrides.from_arguments([word for word in words if "=" in word])
    single = [each for each in texts if each.partition("=")[0] not in overrides.swept_values(texts)]
    if configs.load(single).model.source in (Source.hub, Source.mlflow):
        return
    command = command.replace("mlflow run .", f"mlflow run {PROJECT} {shlex.join(FEW_ROWS)}")

    result = sandbox.run_shell(command, cwd=PROJECT if command.startswith("python") else None)

    if "_difference_low.min" in command:  # few rows cannot pass such a gate
        assert result.status == 1
        assert "exact_match_difference_low" in result.message
    else:
        result.check()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_readme_make_targets_exist(sandbox: Sandbox, command: str) -> None:
    assert sandbox.run_shell(f"{command} --dry-run", cwd=PROJECT).status == 0


def test_store_holds_only_complete_entries(sandbox: Sandbox) -> None:
    home = sandbox.folder / "home"

    kinds = {path.name for path in home.iterdir()}
    others = {"answers", "building", "digests", "locks", "servers"}
    assert kinds == {"weights", "onnx", *others}
    assert list((home / "building").iterdir()) == []
    assert all((entry / "manifest.json").exists() for entry in (home / "onnx").iterdir())


def test_example_notebook_runs(sandbox: Sandbox) -> None:
    """Its code cells, on the newest run of the workflow."""
    notebook = json.loads((PROJECT / "examples" / "compare_flavors.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = sandbox.folder / "notebook.py"
    script.write_text("\n".join(cells))

    result = sandbox.run_shell(f"MPLBACKEND=agg python {script}").check()

    assert "tiny_phi3 on " in result.output
    assert result.output.rstrip().endswith("The capital of Japan is Tokyo.")


def test_secrets_are_not_stored_or_printed(sandbox: Sandbox) -> None:
    """Searches everything earlier commands printed and wrote: runs, models, store, database."""
    files = [file for file in sandbox.folder.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"mlflow.db", "comparison.json", "result.json", "MLmodel", "model.onnx.data"} <= names
    places = {
        name: _places_with(secret, files, sandbox.printed) for name, secret in SECRETS.items()
    }
    assert places == {name: set() for name in SECRETS}
    # The search finds a text that is present.
    present = _places_with("tiny_phi3", files, sandbox.printed)
    assert {"mlflow.db", "config.yaml", "output"} <= present


def _places_with(text: str, files: list[Path], printed: list[str]) -> set[str]:
    """Return the names of the files that contain a text, and "output" if that does."""
    places = {file.name for file in files if text.encode() in file.read_bytes()}
    for file in (file for file in files if file.name == "mlflow.db"):
        # Row by row: the pages of the file may split a value.
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            places |= {file.name} if text in "".join(database.iterdump()) else set()
    return places | ({"output"} if text in "".join(printed) else set())


def _run_reusing(sandbox: Sandbox, reused: str, step: str, *overrides: str) -> Run:
    """Run a step, which must reuse a result of the step `reused`; return its run."""
    before = len(sandbox.runs(reused))
    sandbox.run_step(step, *overrides).check()
    run = sandbox.runs(step)[0]
    assert len(sandbox.runs(reused)) == before
    assert f"{reused}:" in run.data.tags["slmflow.reused_from"]
    return run


def _below(sandbox: Sandbox, run_id: str) -> list[Run]:
    return list(sandbox.client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{run_id}'"))
