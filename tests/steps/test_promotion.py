"""Promotion by approval, and rolling back, in a real registry."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slmflow.pipeline import registered_models
from slmflow.pipeline.step_runner import run
from slmflow.registry.announcements import NOTIFIED
from steps.rollback import rollback
from tests.registry.finished_runs import (
    RegisteredModel,
    finish_evaluation,
    newest_run,
)
from tests.registry.receivers import receiving
from tests.steps.conftest import ReadErrors

CHAMPION = "registry.stage=champion"


def _approve(model: RegisteredModel, version: str, name: str = "Ada Lovelace") -> None:
    MlflowClient().set_model_version_tag(model.name, version, "slmflow_approved_by", name)


def _tags(model: RegisteredModel, version: str) -> dict[str, str]:
    tags: dict[str, str] = registered_models.version(model.name, version).tags
    return tags


def _roll_back(model: RegisteredModel, *arguments: str) -> int:
    return run("rollback", rollback, [f"registry.name={model.name}", *arguments])


def _promote(model: RegisteredModel, version: str) -> None:
    _approve(model, version)
    assert model.register(CHAMPION, f"registry.version={version}") == 0
    assert model.version_under("champion") == version


def _register_three(model: RegisteredModel) -> None:
    """Create three versions, as register tags them."""
    _, evaluation = finish_evaluation()
    client = MlflowClient()
    client.create_registered_model(model.name)
    for flavor in (*evaluation.models, evaluation.models[0]):
        client.create_model_version(model.name, flavor.model_uri, tags={"slmflow_gate": "none"})


def test_version_is_promoted_once_approved(model: RegisteredModel, printed: ReadErrors) -> None:
    arguments, _ = finish_evaluation()
    assert model.register(*arguments) == 0
    assert model.register(CHAMPION) == 1
    assert model.version_under("champion") is None
    errors = printed()
    assert f"models:/{model.name}/1 is not approved" in errors
    assert "exact_match max_drop=0.05, token_f1 max_drop=0.05" in errors

    command = shlex.split(errors[errors.index("python -c ") :])[:3]
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert model.register(CHAMPION) == 0

    assert model.version_under("champion") == "1"
    assert "approved by YOUR NAME" in printed()
    promotion = newest_run("register").info.run_id
    assert _tags(model, "1")["slmflow_run_promote"] == promotion
    assert model.register(CHAMPION) == 0
    assert "is the champion already" in printed()
    assert model.register(*arguments) == 0  # its tags are written anew
    assert _tags(model, "1")["slmflow_approved_by"] == "YOUR NAME"


def test_blank_approval_is_none(model: RegisteredModel, printed: ReadErrors) -> None:
    _register_three(model)
    _approve(model, "1", " ")
    assert model.register(CHAMPION, "registry.version=1") == 1
    assert "is not approved" in printed()


def test_version_without_a_gate_is_not_promoted(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    _, evaluation = finish_evaluation()
    client = MlflowClient()
    client.create_registered_model(model.name)
    client.create_model_version(model.name, evaluation.models[0].model_uri)
    client.set_registered_model_alias(model.name, "candidate", "1")
    _approve(model, "1")
    assert model.register(CHAMPION) == 1
    assert "is not known to have passed a gate" in printed()


def test_candidate_of_the_target_is_promoted(model: RegisteredModel) -> None:
    _register_three(model)
    for alias, version in (("candidate", "1"), ("candidate-cpu_int8", "2")):
        MlflowClient().set_registered_model_alias(model.name, alias, version)
    _approve(model, "2")
    assert model.register(CHAMPION, "target=cpu_int8") == 0
    assert model.version_under("champion") == "2"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "has no version under candidate to promote"),
        (("registry.version=7",), "/7 does not exist"),
        (("registry.version=latest",), "give the number of a version"),
    ],
)
def test_absent_version_is_named(
    model: RegisteredModel, printed: ReadErrors, arguments: tuple[str, ...], told: str
) -> None:
    assert model.register(CHAMPION, *arguments) in (1, 2)
    assert told in printed()


def test_rollback_goes_back_one_champion_at_a_time(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    _register_three(model)
    for version in ("1", "2", "3"):
        _promote(model, version)

    assert _roll_back(model) == 0
    assert model.version_under("champion") == "2"
    assert "/2 is the champion again, in place of version 3" in printed()
    assert "slmflow_approved_by" not in _tags(model, "3")
    assert "slmflow_rolled_back" in _tags(model, "3")
    assert _roll_back(model) == 0
    assert model.version_under("champion") == "1"
    assert _roll_back(model) == 1
    assert "there is nothing to roll back to" in printed()
    assert model.version_under("champion") == "1"


def test_rollback_without_champion_is_explained(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    assert _roll_back(model) == 1
    assert f"models:/{model.name}@champion does not exist" in printed()


def test_rollback_follows_moves_by_hand(model: RegisteredModel) -> None:
    _register_three(model)
    _promote(model, "1")
    _promote(model, "2")
    client = MlflowClient()
    client.set_registered_model_alias(model.name, "champion", "3")
    assert _roll_back(model) == 0
    assert model.version_under("champion") == "2"
    client.set_registered_model_alias(model.name, "champion", "1")
    assert _roll_back(model) == 1
    assert model.version_under("champion") == "1"


def test_rollback_leaves_out_deleted_versions(model: RegisteredModel, printed: ReadErrors) -> None:
    _register_three(model)
    for version in ("1", "2", "3"):
        _promote(model, version)
    MlflowClient().delete_model_version(model.name, "2")
    assert _roll_back(model) == 0
    assert model.version_under("champion") == "1"
    assert "version 2 can no longer be used" in printed()


def test_rolled_back_version_needs_a_new_approval(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    first, _ = finish_evaluation()
    better, _ = finish_evaluation(exact_match=0.99)
    for arguments in (first, better):
        assert model.register(*arguments, "registry.promote=true") == 0
    assert model.version_under("champion") == "2"
    assert _roll_back(model) == 0

    assert model.register(*better, "registry.promote=true") == 0
    assert model.version_under("champion") == "1"
    assert "was rolled back and is not promoted by registry.promote" in printed()
    assert model.register(CHAMPION) == 1
    _promote(model, "2")
    assert "slmflow_rolled_back" not in _tags(model, "2")


def test_each_change_is_announced(
    model: RegisteredModel, tmp_path: Path, printed: ReadErrors
) -> None:
    log = tmp_path / "log.jsonl"
    code = (
        "import json, os, sys; names = ('SLMFLOW_EVENT', 'SLMFLOW_MODEL_URI'); "
        "entry = [json.load(sys.stdin)['action'], *map(os.environ.get, names)]; "
        f"print(json.dumps(entry), file=open({str(log)!r}, 'a'))"
    )
    with receiving() as receiver:
        hooks = (
            f"registry.webhook={receiver.url}",
            f"registry.command={json.dumps([sys.executable, '-c', code])}",
        )
        arguments, evaluation = finish_evaluation()
        assert model.register(*arguments, *hooks, "registry.promote=true") == 0
        other = evaluation.models[0].model_uri
        MlflowClient().create_model_version(model.name, other, tags={"slmflow_gate": "none"})
        _approve(model, "2")
        assert model.register(CHAMPION, "registry.version=2", *hooks) == 0
        notified = newest_run("register").data.tags[NOTIFIED]
        assert _roll_back(model, *hooks) == 0

    actions = ["registered", "promoted", "promoted", "rolled_back"]
    assert [each["action"] for each in receiver.messages] == actions
    promoted, last = receiver.messages[2:]
    assert promoted["data"]["previous_champion"] == "1"
    assert promoted["data"]["approved_by"] == "Ada Lovelace"
    text = f"models:/{model.name}/2 is the champion in place of version 1"
    assert promoted["text"].startswith(text)
    assert last["data"]["previous_champion"] == "2"
    assert last["data"]["aliases"] == ["candidate", "candidate-cpu_int4", "champion"]
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry[0] for entry in entries] == [entry[1] for entry in entries] == actions
    assert entries[-1][2] == f"models:/{model.name}/1"
    assert notified == "webhook succeeded for promoted; command succeeded for promoted"


def test_failed_announcement_is_a_warning(model: RegisteredModel, printed: ReadErrors) -> None:
    arguments, _ = finish_evaluation()
    command = json.dumps([sys.executable, "-c", "import sys; sys.exit(3)"])
    with receiving() as receiver:
        receiver.statuses = [400]
        hooks = (f"registry.webhook={receiver.url}", f"registry.command={command}")
        assert model.register(*arguments, *hooks) == 0

    errors = printed()
    assert "registry.webhook: http://127.0.0.1 answered with status 400" in errors
    assert "ended with status 3" in errors
    assert "webhook failed for registered" in newest_run("register").data.tags[NOTIFIED]
    assert model.version_under("candidate") == "1"


def test_missing_program_is_named_before_any_work(
    model: RegisteredModel, printed: ReadErrors
) -> None:
    arguments, _ = finish_evaluation()
    assert model.register(*arguments, "registry.command=[no-such-program]") == 2
    assert "there is no program 'no-such-program'" in printed()
    assert model.versions() == []
