"""The workflow on a second machine, and steps that run anew, through the real commands."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from slmflow.metrics.model_metrics import TIMING_COLUMNS
from slmflow.pipeline.results import FLOW
from tests.fixtures.machines import CPU, on_other_machine
from tests.fixtures.project import Sandbox, finished_workflow
from tests.fixtures.tracking import read_table

pytestmark = pytest.mark.long

STEPS = [kind.step for kind in FLOW]
ARGUMENTS = ("target=cpu_fp32", "evaluation.limit=12", "measurement.timed_rows=4")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox where the workflow has run once."""
    with finished_workflow(tmp_path_factory.mktemp("machines"), *ARGUMENTS) as sandbox:
        yield sandbox


def newest(sandbox: Sandbox) -> dict[str, Run]:
    return {step: sandbox.runs(step)[0] for step in STEPS}


def measured(run: Run) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = mlflow.artifacts.load_dict(
        f"runs:/{run.info.run_id}/measurements.json"
    )["models"]
    return models


def counts(sandbox: Sandbox) -> dict[str, int]:
    return {step: len(sandbox.runs(step)) for step in STEPS}


def test_second_machine_reuses_answers_and_times_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    """With an empty store, another CPU and another host name."""
    first = newest(sandbox)
    command = [sys.executable, "-m", "steps.main", *ARGUMENTS]
    environment = sandbox.environ() | {"SLMFLOW_HOME": str(tmp_path / "empty")}
    other = on_other_machine(tmp_path, command)
    process = subprocess.run(
        other, env=environment, cwd=sandbox.folder, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr

    second = newest(sandbox)
    anew = {step for step in STEPS if second[step].info.run_id != first[step].info.run_id}
    assert anew == {"measure", "evaluate", "register"}
    params = [runs["measure"].data.params for runs in (first, second)]
    assert params[0]["machine.cpu"] != params[1]["machine.cpu"] == CPU
    before, after = (measured(runs["measure"]) for runs in (first, second))
    for here, there in zip(before, after, strict=True):
        assert there["answers"] == here["answers"]
        assert there["likelihoods"] == here["likelihoods"]
        assert len(there["timings"]) == 4
        assert not {str(each) for each in there["timings"]} & {str(e) for e in here["timings"]}
    tables = [read_table(runs["evaluate"].info.run_id) for runs in (first, second)]
    for here, there in zip(*tables, strict=True):
        assert here["exact_match"] == there["exact_match"]
        assert all(here[column] != there[column] for column in TIMING_COLUMNS - {"peak_rss_mb"})


def test_named_steps_run_once_with_what_follows(sandbox: Sandbox) -> None:
    before, runs_before = counts(sandbox), newest(sandbox)
    sandbox.run_step("main", *ARGUMENTS, "fresh=[convert,measure]").check()
    made = {step: count - before[step] for step, count in counts(sandbox).items()}
    assert made == {step: 0 if step in ("fetch", "log_transformers") else 1 for step in STEPS}
    answers = [measured(runs["measure"])[1]["answers"] for runs in (runs_before, newest(sandbox))]
    assert answers[0] == answers[1]  # of an equal model

    sandbox.run_step("main", *ARGUMENTS).check()
    assert counts(sandbox) == {step: before[step] + made[step] for step in STEPS}


def test_no_reuse_runs_every_step_once(sandbox: Sandbox) -> None:
    before = counts(sandbox)
    options = [word for argument in ARGUMENTS for word in ("-P", argument)]
    sandbox.mlflow_run(*options, "-P", "no-reuse=true").check()
    assert counts(sandbox) == {step: count + 1 for step, count in before.items()}


def test_timing_again_reuses_models_and_answers(sandbox: Sandbox) -> None:
    before, first = counts(sandbox), newest(sandbox)
    sandbox.run_step("main", *ARGUMENTS, "measurement.again=true").check()
    made = [step for step, count in counts(sandbox).items() if count > before[step]]
    assert made == ["measure", "evaluate", "register"]
    old, new = (measured(runs["measure"]) for runs in (first, newest(sandbox)))
    assert [each["answers"] for each in new] == [each["answers"] for each in old]
    assert all(a["timings"] != b["timings"] for a, b in zip(new, old, strict=True))


def test_sweep_makes_a_fresh_step_once_per_key(sandbox: Sandbox) -> None:
    points = "evaluation.limit=3,4"
    arguments = ("target=cpu_fp32", points, "measurement.timed_rows=2")
    before = counts(sandbox)
    sandbox.run_step("sweep", *arguments, "fresh=[convert]").check()
    made = {step: count - before[step] for step, count in counts(sandbox).items()}
    assert (made["fetch"], made["convert"], made["log_genai"]) == (0, 1, 1)
    assert made["measure"] >= 2
