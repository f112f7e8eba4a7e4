"""The step register, after real runs of the steps before it."""

import shlex
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config import compose
from slmflow.metrics.model_metrics import METRIC_COLUMNS
from slmflow.metrics.uncertainty import Difference
from slmflow.pipeline import manifests, model_uris, runs, store
from slmflow.pipeline.results import InvalidResult, ModelVersion
from slmflow.registry import version_tags
from tests.metrics.samples import GENAI
from tests.registry.finished_runs import (
    RegisteredModel,
    finish_evaluation,
    finish_evaluation_on_rows,
    newest_run,
)
from tests.steps.conftest import ReadErrors

PROMOTE = "registry.promote=true"


def _aliases(model: RegisteredModel) -> tuple[str | None, str | None]:
    """Return the versions of the candidate and the champion."""
    return model.version_under("candidate"), model.version_under("champion")


def _result() -> ModelVersion:
    return runs.load_result(ModelVersion, newest_run("register").info.run_id)


def test_passing_model_is_registered_under_the_alias(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    arguments, evaluation = finish_evaluation()

    assert model.register(*arguments, "registry.gate.exact_match.min=0.9") == 0

    [version] = model.versions()
    assert version.source == evaluation.models[1].model_uri
    assert model.version_under("candidate") == "1"
    assert "| `exact_match` |" in version.description
    assert "genai (exact_match 0.98 against 0.974 of transformers)" in printed()
    _result().check()


def test_failed_gate_names_every_unmet_threshold(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    arguments, _ = finish_evaluation(perplexity=None, token_f1=0.9)
    violations = {
        "exact_match.min=0.99": "exact_match is 0.98: below registry.gate.exact_match.min=0.99",
        "latency_ms_p95.max=40": "latency_ms_p95 is 43: above registry.gate.latency_ms_p95.max=40",
        "perplexity.max=2": "perplexity was not measured: registry.gate.perplexity.max=2",
        "token_f1.max_drop=0.01": "token_f1 is 0.9: worse by 0.0951 than 0.9951 of transformers",
    }

    assert model.register(*arguments, *(f"registry.gate.{limit}" for limit in violations)) == 1

    assert model.versions() == []
    run = newest_run("register")
    assert run.info.status == "FAILED"
    errors = printed()
    for violation in violations.values():
        assert violation in run.data.tags[runs.ERROR]
        assert violation in errors
    assert errors.count("error: ") == 1
    assert "would pass" not in errors


def test_other_passing_flavor_is_named_not_registered(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    # It ranks below transformers, which is slower.
    arguments, evaluation = finish_evaluation(exact_match=0.95)

    assert model.register(*arguments, "registry.gate.latency_ms_p95.max=200") == 1

    assert model.versions() == []
    errors = printed()
    assert "the candidate is transformers (exact_match 0.974 against 0.95 of genai), but" in errors
    advice = "genai would pass, but is not the candidate; to register it, set registry.flavor=genai"
    assert f"{advice} (" in errors
    assert evaluation.models[1].model_uri in errors


def test_worse_int4_is_refused_and_not_replaced(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    """The user asked for genai: the better transformers flavor must not take its place."""
    worse = {**GENAI.differences, "exact_match": Difference(-0.123, -0.172, -0.077)}
    arguments, _ = finish_evaluation(exact_match=0.851, differences=worse)
    gate = "registry.gate.exact_match_difference_low.min=-0.05"

    assert model.register(*arguments, gate, "registry.flavor=genai") == 1

    assert model.versions() == []
    errors = printed()
    assert f"exact_match_difference_low is -0.172: below {gate}" in errors
    assert "worse by 0.123 than 0.974 of transformers" in errors  # the default gate, too
    assert "transformers would pass, but is not the candidate" in errors


def test_model_without_reference_is_registered(model: RegisteredModel, printed: ReadErrors) -> None:
    drops = ("registry.gate.exact_match.max_drop=null", "registry.gate.token_f1.max_drop=null")
    arguments, evaluation = finish_evaluation("evaluation.reference=none")

    assert model.register(*arguments) == 2
    assert " ".join(drops) in printed()
    assert model.register(*arguments, *drops, "registry.gate.exact_match.min=0.99") == 1
    assert "exact_match is 0.98: below" in printed()
    assert model.register(*arguments, *drops, "registry.gate.exact_match.min=0.9") == 0

    [version] = model.versions()
    assert version.source == evaluation.models[0].model_uri
    assert "genai (the only evaluated flavor)" in printed()
    assert "Nothing is compared: genai is evaluated without a reference" in version.description


def test_first_version_is_promoted_only_if_configured(model: RegisteredModel) -> None:
    arguments, _ = finish_evaluation()

    assert model.register(*arguments) == 0
    assert model.version_under("champion") is None
    assert model.register(*arguments, PROMOTE) == 0

    assert _aliases(model) == ("1", "1")
    assert _result().champion == "1"


def test_another_gate_creates_no_second_version(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    arguments, _ = finish_evaluation()
    assert model.register(*arguments) == 0
    assert "the model is already" not in printed()

    assert model.register(*arguments, "registry.gate.exact_match.min=0.9") == 0
    assert model.register(*arguments, "registry.alias=staging") == 0

    [version] = model.versions()
    assert (model.version_under("candidate"), model.version_under("staging")) == ("1", "1")
    assert version.tags["slmflow_run_register"] == newest_run("register").info.run_id
    assert f"the model is already models:/{model.name}/1" in printed()


def test_better_model_replaces_the_champion(model: RegisteredModel, printed: ReadErrors) -> None:
    first, _ = finish_evaluation()
    assert model.register(*first, PROMOTE) == 0
    better, _ = finish_evaluation(exact_match=0.99)

    assert model.register(*better) == 0
    assert _aliases(model) == ("2", "1")
    assert model.register(*better, PROMOTE) == 0
    assert _aliases(model) == ("2", "2")

    assert model.register(*first, PROMOTE) == 0
    assert _aliases(model) == ("1", "2")
    champion = f"models:/{model.name}/2 (champion)"
    assert f"genai is not better than {champion}: exact_match 0.98 against 0.99" in printed()


def test_gate_compares_with_the_champion(model: RegisteredModel, printed: ReadErrors) -> None:
    before, _ = finish_evaluation(exact_match=1.0, latency_ms_p50=10.0)
    assert model.register(*before, PROMOTE) == 0
    after, _ = finish_evaluation()
    limits = ("registry.gate.exact_match.max_drop=0.01", "registry.gate.latency_ms_p50.max_drop=20")

    assert model.register(*after, *limits) == 1

    assert model.version_under("candidate") == "1"
    errors = printed()
    champion = f"models:/{model.name}/1 (champion)"
    assert f"exact_match is 0.98: worse by 0.02 than 1 of {champion}" in errors
    assert f"latency_ms_p50 is 33.3: worse by 23.3 than 10 of {champion}" in errors
    assert "of transformers, but" not in errors


def test_champion_of_other_rows_is_not_compared(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    before, _ = finish_evaluation(exact_match=1.0, latency_ms_p50=10.0)
    assert model.register(*before, PROMOTE) == 0
    after, _ = finish_evaluation(rows=("Tokyo", "Paris", "Rome"))

    assert model.register(*after, PROMOTE, "registry.gate.exact_match.max_drop=0.01") == 0

    assert _aliases(model) == ("2", "1")
    errors = printed()
    assert f"models:/{model.name}/1 (champion) was not measured on these rows" in errors
    command = errors[errors.index("-e register -P registry.name=") :]
    MlflowClient().set_model_version_tag(model.name, "2", "slmflow_approved_by", "Ada Lovelace")
    assert model.register(*shlex.split(command)[3:8:2]) == 0
    assert model.version_under("champion") == "2"


def test_warning_only_if_config_compares_with_champion(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    before, _ = finish_evaluation()
    assert model.register(*before, PROMOTE) == 0
    after, _ = finish_evaluation(rows=("Tokyo", "Paris", "Rome"))
    no_drop = [f"registry.gate.{name}.max_drop=null" for name in ("exact_match", "token_f1")]

    assert model.register(*after, *no_drop) == 0
    assert "was not measured" not in printed()
    assert model.register(*after, *no_drop, PROMOTE) == 0
    assert "was not measured" in printed()


def test_remeasured_champion_is_compared(model: RegisteredModel, printed: ReadErrors) -> None:
    """As the warning advises, on the new rows and again on the old ones."""
    first, evaluation = finish_evaluation(exact_match=0.9)
    assert model.register(*first, PROMOTE) == 0
    result = _result()
    second, _ = finish_evaluation(rows=("Tokyo", "Paris", "Rome"))
    assert model.register(*second, PROMOTE) == 0
    assert _aliases(model) == ("2", "1")
    printed()

    first, _ = finish_evaluation_on_rows(first, evaluation, "Tokyo", "Paris", "Rome")
    assert model.register(*first) == 0
    assert "was not measured" not in printed()
    with pytest.raises(InvalidResult, match="/1 now has the metrics of another evaluation"):
        result.check()
    assert model.register(*second, PROMOTE) == 0

    assert _aliases(model) == ("2", "2")
    assert "was not measured" not in printed()


def test_champion_of_another_tool_is_not_compared(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    arguments, evaluation = finish_evaluation()
    other = mlflow.register_model(evaluation.models[0].model_uri, model.name)
    MlflowClient().set_registered_model_alias(model.name, "champion", other.version)

    assert model.register(*arguments, PROMOTE) == 0

    assert _aliases(model) == ("2", "1")
    assert "was not measured on these rows" in printed()


def test_tags_name_the_runs_and_weights(model: RegisteredModel) -> None:
    revision = "7" * 40
    arguments, evaluation = finish_evaluation(
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
    manifest = manifests.read(store.home() / weights["path"])
    assert tags["slmflow_digest_fetch"] == manifest.digest
    [data] = client.get_run(evaluation.run_id).inputs.dataset_inputs
    assert tags["slmflow_digest_data"] == data.dataset.digest
    assert (tags["slmflow_flavor"], tags["slmflow_target"]) == ("genai", "cpu_int4")
    genai = evaluation.models[1]
    metrics = {name: getattr(genai, name) for name in METRIC_COLUMNS} | genai.user_metrics
    known = {name: value for name, value in metrics.items() if value is not None}
    assert version_tags.read_metrics(tags, evaluation) == known
    assert "slmflow_perplexity" not in tags


def test_tags_fit_unity_catalog(model: RegisteredModel) -> None:
    """At most 50 tags of 1,000 characters, and none of these characters in a name."""
    arguments, _ = finish_evaluation()
    assert model.register(*arguments) == 0

    [version] = model.versions()
    assert len(version.tags) <= 50
    assert max(map(len, version.tags.values())) <= 1000
    assert not set(".,-=/: ") & set("".join(version.tags))


def test_fewer_rows_do_not_take_the_alias(model: RegisteredModel, printed: ReadErrors) -> None:
    many, _ = finish_evaluation(rows=("Tokyo", "Paris", "Rome"))
    assert model.register(*many) == 0
    few, _ = finish_evaluation(exact_match=1.0, rows=("Tokyo",))
    assert model.register(*few) == 0

    assert len(model.versions()) == 2
    assert _aliases(model) == ("1", None)
    errors = printed()
    assert "candidate stays with version 1, which was measured on 3 rows, this one on 1" in errors
    assert f"is models:/{model.name}/2, without an alias" in errors
    _result().check()
    command = shlex.split(errors[errors.index("python -c ") :])[:3]
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert model.version_under("candidate") == model.version_under("candidate-cpu_int4") == "2"


def test_fewer_rows_leave_the_metrics_of_the_same_model(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    many, evaluation = finish_evaluation(rows=("Tokyo", "Paris", "Rome"))
    assert model.register(*many) == 0
    few, _ = finish_evaluation_on_rows(many, evaluation, "Tokyo")
    assert model.register(*few, "registry.alias=staging") == 0

    [version] = model.versions()
    assert version.tags["slmflow_n"] == "3"
    assert version.tags["slmflow_run_evaluate"] == evaluation.run_id
    assert (model.version_under("candidate"), model.version_under("staging")) == ("1", "1")
    assert f"the model is already models:/{model.name}/1, which keeps its metrics" in printed()
    _result().check()


def test_each_target_has_an_alias(model: RegisteredModel, printed: ReadErrors) -> None:
    first, _ = finish_evaluation()
    other, _ = finish_evaluation("target=cpu_int8", exact_match=1.0)
    for arguments in (first, other, first, other):
        assert model.register(*arguments) == 0

    assert len(model.versions()) == 2
    assert model.version_under("candidate") == model.version_under("candidate-cpu_int4") == "1"
    assert model.version_under("candidate-cpu_int8") == "2"
    told = printed()
    assert "candidate stays with version 1, which is for cpu_int4" in told
    assert "warning" not in told
    _result().check()

    def served(*overrides: str) -> str:
        config = compose.load([f"registry.name={model.name}", *overrides])
        return model_uris.resolve(config.serve.model_uri, config)

    assert served() == f"models:/{model.name}@candidate-cpu_int4"
    assert served("target=cpu_int8") == f"models:/{model.name}@candidate-cpu_int8"
    assert served("target=cpu_fp32") == f"models:/{model.name}@candidate"
    assert served("serve.model_uri=models:/other/3") == "models:/other/3"


def test_version_is_reused_until_an_alias_moves(model: RegisteredModel) -> None:
    arguments, _ = finish_evaluation()
    assert model.register(*arguments) == 0
    result, client = _result(), MlflowClient()
    result.check()

    client.set_registered_model_alias(model.name, "champion", "1")  # promoted by hand
    result.check()
    other, _ = finish_evaluation(exact_match=0.99)
    assert model.register(*other, PROMOTE) == 0
    with pytest.raises(InvalidResult, match="candidate is now version 2"):
        result.check()
    for alias in ("candidate", "candidate-cpu_int4"):
        client.set_registered_model_alias(model.name, alias, "1")
    client.set_registered_model_alias(model.name, "champion", "2")
    with pytest.raises(InvalidResult, match="champion is now version 2"):
        result.check()
    client.delete_registered_model_alias(model.name, "candidate")
    with pytest.raises(InvalidResult, match="candidate no longer exists"):
        result.check()


def test_unknown_metric_fails_before_any_work(model: RegisteredModel, printed: ReadErrors) -> None:
    before = len(MlflowClient().search_runs(["0"]))

    assert model.register("registry.gate.exact_mach.min=1", "registry.gate.flavor.max=1") == 2

    assert len(MlflowClient().search_runs(["0"])) == before + 1  # register's own
    assert newest_run("register").info.status == "FAILED"
    errors = printed()
    assert "registry.gate.exact_mach: not a metric. Did you mean exact_match?" in errors
    assert "registry.gate.flavor: not a metric. The metrics are n, exact_match, " in errors
    assert "If flavor is a metric of your own, name its function in evaluation.metrics=[" in errors


def test_lone_model_is_not_registered(model: RegisteredModel, printed: ReadErrors) -> None:
    assert model.register("evaluation.model_uri=models:/other/1") == 2
    assert "model_uri='models:/other/1': a model that is evaluated alone" in printed()


def test_unity_catalog_names_need_three_parts(
    module_tracking: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    printed: ReadErrors,
) -> None:
    """With its registry in the environment, and no workspace."""
    arguments, _ = finish_evaluation()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none.cfg"))
    monkeypatch.delenv("DATABRICKS_HOST", raising=False)

    for name in ("slmflow-tiny_phi3", "main.tiny_phi3", "main..tiny_phi3"):
        assert RegisteredModel(name).register(*arguments) == 2
        assert "whose names have three parts; set it to catalog.schema.model" in printed()
    assert RegisteredModel("main.default.tiny_phi3").register(*arguments) == 1
    errors = printed()
    assert "the model registry cannot be used: Reading Databricks credential" in errors
    assert "Traceback" not in errors


def test_other_registries_accept_any_number_of_parts(module_tracking: None) -> None:
    arguments, _ = finish_evaluation()
    dotted = RegisteredModel("main.default.tiny_phi3")

    assert dotted.register(*arguments) == 0

    assert dotted.version_under("candidate") == "1"
