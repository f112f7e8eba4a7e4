"""The whole step, after real runs of the steps before it."""

import shlex
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.metrics.model_metrics import METRIC_COLUMNS
from slmflow.pipeline import runs, store
from slmflow.pipeline.results import ModelVersion, Stale
from slmflow.registry import version_tags
from tests.registry.evaluated import Registered, evaluate, evaluate_again, last_run

PROMOTE = "registry.promote=true"


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def _result() -> ModelVersion:
    return runs.load_result(ModelVersion, last_run("register").info.run_id)


def test_what_passes_is_a_version_under_the_alias(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, evaluation = evaluate()

    assert model.register(*arguments, "registry.gate.exact_match.min=0.9") == 0

    [version] = model.versions()
    assert version.source == evaluation.figures[1].model_uri
    assert model.under("candidate") == "1"
    assert "| `exact_match` |" in version.description
    assert "genai (exact_match 0.98 against 0.974 of transformers)" in _said(capsys)
    _result().check()


def test_what_fails_is_not_registered_and_every_unmet_threshold_is_named(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, _ = evaluate(perplexity=None, token_f1=0.9)
    unmet = {
        "exact_match.min=0.99": "exact_match is 0.98: below registry.gate.exact_match.min=0.99",
        "latency_ms_p95.max=40": "latency_ms_p95 is 43: above registry.gate.latency_ms_p95.max=40",
        "perplexity.max=2": "perplexity was not measured: registry.gate.perplexity.max=2",
        "token_f1.max_drop=0.01": "token_f1 is 0.9: worse by 0.0951 than 0.9951 of transformers",
    }

    assert model.register(*arguments, *(f"registry.gate.{asked}" for asked in unmet)) == 1

    assert model.versions() == []
    run = last_run("register")
    assert run.info.status == "FAILED"
    said = _said(capsys)
    for reason in unmet.values():
        assert reason in run.data.tags[runs.ERROR]
        assert reason in said
    assert said.count("error: ") == 1
    assert "would pass" not in said


def test_another_flavor_that_would_pass_is_named_not_taken(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, evaluation = evaluate(exact_match=0.95)  # so transformers is better, and slow

    assert model.register(*arguments, "registry.gate.latency_ms_p95.max=200") == 1

    assert model.versions() == []
    said = _said(capsys)
    assert "transformers is chosen (exact_match 0.974 against 0.95 of genai), but" in said
    assert "genai would pass, but is not the better flavor; it can be registered by hand: " in said
    assert evaluation.figures[1].model_uri in said


def test_the_first_is_promoted_only_where_asked(model: Registered) -> None:
    arguments, _ = evaluate()

    assert model.register(*arguments) == 0
    assert model.under("champion") is None
    assert model.register(*arguments, PROMOTE) == 0

    assert (model.under("candidate"), model.under("champion")) == ("1", "1")
    assert _result().champion == "1"


def test_another_gate_makes_no_new_version_of_the_same_model(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, _ = evaluate()
    assert model.register(*arguments) == 0
    assert "is this very model" not in _said(capsys)

    assert model.register(*arguments, "registry.gate.exact_match.min=0.9") == 0
    assert model.register(*arguments, "registry.alias=staging") == 0

    [version] = model.versions()
    assert (model.under("candidate"), model.under("staging")) == ("1", "1")
    assert version.tags["slmflow_run_register"] == last_run("register").info.run_id
    assert f"models:/{model.name}/1 is this very model" in _said(capsys)


def test_the_champion_is_followed_by_what_is_better(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = evaluate()
    assert model.register(*first, PROMOTE) == 0
    better, _ = evaluate(exact_match=0.99)

    assert model.register(*better) == 0
    assert (model.under("candidate"), model.under("champion")) == ("2", "1")
    assert model.register(*better, PROMOTE) == 0
    assert (model.under("candidate"), model.under("champion")) == ("2", "2")

    assert model.register(*first, PROMOTE) == 0
    assert (model.under("candidate"), model.under("champion")) == ("1", "2")
    champion = f"models:/{model.name}/2 (champion)"
    assert f"genai is not better than {champion}: exact_match 0.98 against 0.99" in _said(capsys)


def test_the_gate_holds_against_the_champion(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = evaluate(exact_match=1.0, latency_ms_p50=10.0)
    assert model.register(*before, PROMOTE) == 0
    after, _ = evaluate()
    asked = ("registry.gate.exact_match.max_drop=0.01", "registry.gate.latency_ms_p50.max_drop=20")

    assert model.register(*after, *asked) == 1

    assert model.under("candidate") == "1"
    said = _said(capsys)
    champion = f"models:/{model.name}/1 (champion)"
    assert f"exact_match is 0.98: worse by 0.02 than 1 of {champion}" in said
    assert f"latency_ms_p50 is 33.3: worse by 23.3 than 10 of {champion}" in said
    assert "of transformers, and" not in said


def test_a_champion_of_other_rows_says_nothing(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = evaluate(exact_match=1.0, latency_ms_p50=10.0)
    assert model.register(*before, PROMOTE) == 0
    after, _ = evaluate(rows=("Tokyo", "Paris", "Rome"))

    assert model.register(*after, PROMOTE, "registry.gate.exact_match.max_drop=0.01") == 0

    assert (model.under("candidate"), model.under("champion")) == ("2", "1")
    said = _said(capsys)
    assert f"models:/{model.name}/1 (champion) was not measured on these rows" in said
    command = shlex.split(said[said.index("python -c ") :])[:3]
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert model.under("champion") == "2"


def test_what_asks_for_no_champion_is_not_warned_of_one(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = evaluate()
    assert model.register(*before, PROMOTE) == 0
    after, _ = evaluate(rows=("Tokyo", "Paris", "Rome"))
    no_drop = [f"registry.gate.{name}.max_drop=null" for name in ("exact_match", "token_f1")]

    assert model.register(*after, *no_drop) == 0
    assert "was not measured" not in _said(capsys)
    assert model.register(*after, *no_drop, PROMOTE) == 0
    assert "was not measured" in _said(capsys)


def test_a_champion_that_is_measured_anew_is_compared(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the warning advises: on the new rows, and back on the old ones."""
    ours, evaluation = evaluate(exact_match=0.9)
    assert model.register(*ours, PROMOTE) == 0
    made = _result()
    theirs, _ = evaluate(rows=("Tokyo", "Paris", "Rome"))
    assert model.register(*theirs, PROMOTE) == 0
    assert (model.under("candidate"), model.under("champion")) == ("2", "1")
    _said(capsys)

    ours, _ = evaluate_again(ours, evaluation, "Tokyo", "Paris", "Rome")
    assert model.register(*ours) == 0
    assert "was not measured" not in _said(capsys)
    with pytest.raises(Stale, match="candidate now has the metrics of another evaluation"):
        made.check()
    assert model.register(*theirs, PROMOTE) == 0

    assert (model.under("candidate"), model.under("champion")) == ("2", "2")
    assert "was not measured" not in _said(capsys)


def test_a_champion_made_by_others_says_nothing(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, evaluation = evaluate()
    theirs = mlflow.register_model(evaluation.figures[0].model_uri, model.name)
    MlflowClient().set_registered_model_alias(model.name, "champion", theirs.version)

    assert model.register(*arguments, PROMOTE) == 0

    assert (model.under("candidate"), model.under("champion")) == ("2", "1")
    assert "was not measured on these rows" in _said(capsys)


def test_a_version_leads_back_to_its_runs_and_weights(model: Registered) -> None:
    revision = "7" * 40
    arguments, evaluation = evaluate(
        "model=hub", "model.id=owner/name", f"model.revision={revision}"
    )
    assert model.register(*arguments) == 0

    [version] = model.versions()
    tags, client = version.tags, MlflowClient()
    for name in ("fetch", "convert", "log_genai", "measure", "evaluate", "register"):
        run = client.get_run(tags[f"slmflow_run_{name}"])
        assert run.data.tags[runs.STEP] == name
        if name != "register":
            assert run.data.tags[runs.KEY] == tags[f"slmflow_key_{name}"]
    assert version.run_id == tags["slmflow_run_log_genai"]
    assert client.get_run(version.run_id).data.params["model.revision"] == revision
    assert (tags["slmflow_model_id"], tags["slmflow_model_revision"]) == ("owner/name", revision)
    weights = mlflow.artifacts.load_dict(f"runs:/{tags['slmflow_run_fetch']}/result.json")
    manifest = Path(weights["path"]) / store.MANIFEST
    assert tags["slmflow_digest_fetch"] == store.sha256(manifest)
    [data] = client.get_run(evaluation.run_id).inputs.dataset_inputs
    assert tags["slmflow_digest_data"] == data.dataset.digest
    assert (tags["slmflow_flavor"], tags["slmflow_target"]) == ("genai", "cpu_int4")
    row = evaluation.figures[1]
    figures = {name: getattr(row, name) for name in METRIC_COLUMNS} | row.further
    known = {name: value for name, value in figures.items() if value is not None}
    assert version_tags.figures(tags, evaluation) == known
    assert "slmflow_perplexity" not in tags


def test_tags_are_such_as_unity_catalog_takes(model: Registered) -> None:
    """At most 50 of 1,000 characters, and none of these signs in a name."""
    arguments, _ = evaluate()
    assert model.register(*arguments) == 0

    [version] = model.versions()
    assert len(version.tags) <= 50
    assert max(map(len, version.tags.values())) <= 1000
    assert not set(".,-=/: ") & set("".join(version.tags))


def test_a_version_is_reused_until_an_alias_moves(model: Registered) -> None:
    arguments, _ = evaluate()
    assert model.register(*arguments) == 0
    made, client = _result(), MlflowClient()
    made.check()

    client.set_registered_model_alias(model.name, "champion", "1")  # by a person, after a look
    made.check()
    other, _ = evaluate(exact_match=0.99)
    assert model.register(*other, PROMOTE) == 0
    with pytest.raises(Stale, match="candidate is now version 2"):
        made.check()
    client.set_registered_model_alias(model.name, "candidate", "1")
    client.set_registered_model_alias(model.name, "champion", "2")
    with pytest.raises(Stale, match="champion is now version 2"):
        made.check()
    client.delete_registered_model_alias(model.name, "candidate")
    with pytest.raises(Stale, match="candidate no longer exists"):
        made.check()


def test_an_unknown_figure_is_refused_before_any_work(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(MlflowClient().search_runs(["0"]))

    assert model.register("registry.gate.exact_mach.min=1", "registry.gate.flavor.max=1") == 2

    assert len(MlflowClient().search_runs(["0"])) == before + 1  # register's own
    assert last_run("register").info.status == "FAILED"
    said = _said(capsys)
    assert "registry.gate.exact_mach: not a figure. Did you mean exact_match?" in said
    assert "registry.gate.flavor: not a figure. The figures are n, exact_match, " in said
    assert "If flavor is a metric of your own, name its function in evaluation.metrics=[" in said


def test_what_is_evaluated_alone_is_not_registered(
    model: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model.register("evaluation.model_uri=models:/other/1") == 2
    assert "evaluation.model_uri='models:/other/1': what is evaluated alone" in _said(capsys)


def test_unity_catalog_wants_three_parts(
    place: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its registry named in the environment, and no workspace to reach."""
    arguments, _ = evaluate()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none.cfg"))
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)

    for name in ("slmflow-tiny_phi3", "main.tiny_phi3", "main..tiny_phi3"):
        assert Registered(name).register(*arguments) == 2
        assert "whose names have three parts; give catalog.schema.model" in _said(capsys)
    assert Registered("main.default.tiny_phi3").register(*arguments) == 1
    said = _said(capsys)
    assert "the model registry cannot be used: Reading Databricks credential" in said
    assert "Traceback" not in said


def test_elsewhere_a_name_may_have_any_parts(place: None) -> None:
    arguments, _ = evaluate()
    dotted = Registered("main.default.tiny_phi3")

    assert dotted.register(*arguments) == 0

    assert dotted.under("candidate") == "1"
