"""The workflow with the runs of one tracking server and an empty store, as a teammate has it."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.fixtures.project import Sandbox, finished_workflow

STEPS = ("fetch", "convert", "log_transformers", "log_genai", "measure", "evaluate", "register")
FEW_ROWS = ("evaluation.limit=6", "measurement.timed_rows=2", "target=cpu_fp32")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox where the workflow has run once."""
    with finished_workflow(tmp_path_factory.mktemp("first"), *FEW_ROWS) as sandbox:
        yield sandbox


@pytest.fixture
def second(first: Sandbox, tmp_path: Path) -> Sandbox:
    """The same tracking server, and an empty store."""
    return Sandbox(first.folder, {"SLMFLOW_HOME": str(tmp_path / "home")})


def _run(sandbox: Sandbox, *overrides: str) -> tuple[list[str], str]:
    """Run `main`; return the steps that ran, in order, and what was printed."""
    before = {run.info.run_id for step in STEPS for run in sandbox.runs(step)}
    errors = sandbox.run_step("main", *FEW_ROWS, *overrides).check().errors
    new = {step for step in STEPS for run in sandbox.runs(step) if run.info.run_id not in before}
    return [step for step in STEPS if step in new], errors


def _assert_no_warning_of_the_first_store(first: Sandbox, errors: str) -> None:
    """Others, such as that the few rows passed the gate, may be printed."""
    without_wrapping = "".join(errors.split())
    assert "isnotreused" not in without_wrapping
    assert str(first.folder / "home") not in without_wrapping


@pytest.mark.long
def test_nothing_runs_in_an_empty_store(second: Sandbox, tmp_path: Path) -> None:
    ran, errors = _run(second)

    assert ran == []
    assert not (tmp_path / "home" / "weights").exists()
    assert "warning" not in errors
    lines = dict(line.split(maxsplit=1) for line in errors.splitlines() if line.startswith(STEPS))
    reused = {step for step, status in lines.items() if status.startswith("reused from run ")}
    assert reused == {"log_transformers", "log_genai", "measure", "evaluate", "register"}
    assert lines["fetch"].startswith("not needed (run ")
    assert lines["convert"].startswith("not needed (run ")


@pytest.mark.long
def test_other_gate_only_registers(second: Sandbox) -> None:
    ran, _ = _run(second, "registry.gate.exact_match.min=0.01")

    assert ran == ["register"]


@pytest.mark.long
def test_other_measurement_needs_no_weights(first: Sandbox, second: Sandbox) -> None:
    ran, errors = _run(second, "evaluation.seed=1")

    assert ran == ["measure", "evaluate", "register"]
    _assert_no_warning_of_the_first_store(first, errors)


@pytest.mark.long
def test_other_metric_only_evaluates(second: Sandbox) -> None:
    ran, _ = _run(second, "evaluation.metrics=[operator:eq]")

    assert ran == ["evaluate", "register"]


@pytest.mark.long
def test_other_target_needs_the_weights(second: Sandbox) -> None:
    ran, _ = _run(second, "target=cpu_int8")

    assert ran == ["fetch", "convert", "log_genai", "measure", "evaluate", "register"]


@pytest.mark.long
def test_sweep_needs_no_weights(second: Sandbox, tmp_path: Path) -> None:
    """Of two points one is known, and one is another evaluation of known measurements."""
    before = [len(second.runs(step)) for step in ("fetch", "convert", "measure")]

    second.run_step("sweep", *FEW_ROWS, "evaluation.margin=0.05,0.02").check()

    assert [len(second.runs(step)) for step in ("fetch", "convert", "measure")] == before
    assert not (tmp_path / "home" / "weights").exists()
