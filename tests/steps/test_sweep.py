"""The step, on a real tracking store: its points are finished evaluations, or ones that fail."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.metrics.figures import COLUMNS
from slmflow.pipeline import runs, step
from slmflow.pipeline.stale_runs import LOCK
from slmflow.sweeps.arguments import read
from slmflow.sweeps.context import POINT
from slmflow.sweeps.reports.report import BEST, FRONT
from steps.register import register
from steps.sweep import sweep
from tests.registry.evaluated import evaluate, last_run

pytestmark = pytest.mark.usefixtures("place")

# No machine here has DirectML: such a point fails before any work.
FAILS = "dml_int4"


def _run(*arguments: str) -> tuple[int, Run, list[Run]]:
    """Sweep; return the exit status, the sweep's run and those of its points, in order."""
    status = step.run("sweep", sweep, arguments, read)
    run = last_run("sweep")
    below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    points = MlflowClient().search_runs(["0"], below, order_by=["start_time ASC"])
    return status, run, list(points)


def _evaluated(**genai: float | None) -> str:
    """Finish an evaluation with such figures; return its `generation.max_new_tokens`."""
    arguments, _ = evaluate(**genai)
    return arguments[-1].partition("=")[2]


@pytest.fixture
def three() -> list[str]:
    """Evaluations: slow and right, fast and nearly right, and slower and worse than that."""
    return [
        _evaluated(exact_match=1.0, latency_ms_p50=50.0, peak_rss_mb=900.0),
        _evaluated(exact_match=0.9, latency_ms_p50=10.0, peak_rss_mb=400.0),
        _evaluated(exact_match=0.9, latency_ms_p50=12.0, peak_rss_mb=400.0),
    ]


def test_each_point_is_a_child_run_with_its_figures(three: list[str]) -> None:
    status, run, points = _run(f"generation.max_new_tokens={','.join(three)}")

    assert status == 0
    assert {point.info.status for point in points} == {"FINISHED"}
    names = [f"generation.max_new_tokens={value}" for value in three]
    assert [point.data.tags[POINT] for point in points] == names
    assert [point.info.run_name for point in points] == names
    assert [point.data.params["generation.max_new_tokens"] for point in points] == three
    assert [point.data.metrics["genai.exact_match"] for point in points] == [1.0, 0.9, 0.9]
    assert run.data.params["generation.max_new_tokens"] == ",".join(three)
    states = {"measured": 0, "reused": 3, "given_up": 0, "failed": 0}
    assert run.data.metrics == {f"points.{state}": number for state, number in states.items()}


def test_the_comparison_has_all_points_and_what_they_differ_in(three: list[str]) -> None:
    _, run, _ = _run(f"generation.max_new_tokens={','.join(three)}")

    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/comparison.json")
    key, *columns = table["columns"]
    assert key == "generation.max_new_tokens"
    assert columns[: len(COLUMNS)] == list(COLUMNS)
    assert [row[0] for row in table["data"]] == [int(v) for value in three for v in (value, value)]
    assert [row[1] for row in table["data"]] == ["transformers", "genai"] * 3
    for plot in ("front.png", "parallel.png"):
        file = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/{plot}")
        assert Path(file).read_bytes().startswith(b"\x89PNG")


def test_the_front_is_tagged_and_the_best_named(
    three: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("sweep.constraints=peak_rss_mb<500", f"generation.max_new_tokens={','.join(three)}")

    _, run, points = _run(*asked)

    assert [point.data.tags.get(FRONT) for point in points] == ["true", "true", None]
    assert [point.data.tags.get(BEST) for point in points] == [None, "true", None]
    assert run.data.tags[BEST] == points[1].info.run_id
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"best of 3 points: generation.max_new_tokens={three[1]} (")


def test_the_command_registers_the_model_that_it_names(three: list[str]) -> None:
    """Also where the transformers flavor is better by register's own ranking."""
    chosen = [
        f"generation.max_new_tokens={three[1]}",
        "registry.flavor=genai",
        "registry.gate.exact_match.max_drop=1",
    ]
    assert step.run("register", register, [*chosen, "registry.name=swept"]) == 0

    [version] = MlflowClient().search_model_versions("name='swept'")
    assert version.tags["slmflow_latency_ms_p50"] == "10.0"


def test_a_point_that_fails_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    arguments, _ = evaluate("target=cpu_int8", exact_match=0.75)

    status, run, points = _run(f"target={FAILS},cpu_int8", arguments[-1])

    assert status == 1
    assert run.info.status == "FAILED"
    assert [point.info.status for point in points] == ["FAILED", "FINISHED"]
    error = run.data.tags[runs.ERROR]
    assert error.startswith(f"1 of 2 points failed:\ntarget={FAILS}: target={FAILS}: the ONNX")
    assert run.data.metrics["points.failed"] == 1
    assert "comparison.json" in [
        file.path for file in MlflowClient().list_artifacts(run.info.run_id)
    ]
    shown = capsys.readouterr().err
    assert "best of 1 points: target=cpu_int8" in shown
    assert "Traceback" not in shown


def test_failures_can_be_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments, _ = evaluate("target=cpu_int8", exact_match=0.75)
    asked = (f"target={FAILS},cpu_int8", arguments[-1], "sweep.allow_failures=true")

    status, run, _ = _run(*asked)

    assert (status, run.info.status) == (0, "FINISHED")
    shown = capsys.readouterr().err
    assert "warning: 1 of 2 points failed" in shown
    assert shown.splitlines()[-1].startswith("best of 1 points: target=cpu_int8")


def test_without_any_point_a_sweep_is_failed() -> None:
    status, run, _ = _run(f"target={FAILS},cuda_int4", "sweep.allow_failures=true")

    assert (status, run.info.status) == (1, "FAILED")
    assert "2 of 2 points failed" in run.data.tags[runs.ERROR]


def test_what_a_point_prints_is_kept_with_its_run() -> None:
    _, _, [point, _] = _run(f"target={FAILS},cuda_int4")

    log = mlflow.artifacts.load_text(f"runs:/{point.info.run_id}/log.txt")
    assert f"error: target={FAILS}" in log


def test_points_that_mean_the_same_are_measured_once() -> None:
    value = _evaluated(exact_match=0.5)

    status, _, points = _run("generation.temperature=0,0.0", f"generation.max_new_tokens={value}")

    assert status == 0
    assert [json.dumps(p.data.metrics.get("genai.exact_match")) for p in points] == ["0.5", "0.5"]


@pytest.mark.long
def test_workers_of_joblib_do_the_same(three: list[str]) -> None:
    status, run, points = _run(
        f"generation.max_new_tokens={','.join(three)}", "sweep.launcher=joblib"
    )

    assert status == 0
    assert sorted(point.data.params["generation.max_new_tokens"] for point in points) == sorted(
        three
    )
    assert {point.data.tags["mlflow.parentRunId"] for point in points} == {run.info.run_id}
    assert run.data.metrics["points.reused"] == 3


def test_a_sweep_that_was_ended_is_killed_when_another_starts(
    three: list[str], tmp_path: Path
) -> None:
    """As kill -9 leaves it: MLflow's own run FAILED or RUNNING, what is below RUNNING."""
    client = MlflowClient()
    _, run, _ = _run(f"generation.max_new_tokens={three[0]},{three[1]}")
    node = run.data.tags[LOCK].partition(":")[0]
    begun = {}
    for name, machine, state in (
        ("dead", node, "FAILED"),
        ("elsewhere", "another-machine", "RUNNING"),
    ):
        tags = {runs.STEP: "sweep", LOCK: f"{machine}:{tmp_path}/lock"}
        parent = client.create_run("0", tags=tags).info.run_id
        point = client.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id
        client.update_run(parent, state)
        begun[name] = client.create_run("0", tags={"mlflow.parentRunId": point}).info.run_id

    _run(f"generation.max_new_tokens={three[0]},{three[1]}")

    states = {name: client.get_run(run_id).info.status for name, run_id in begun.items()}
    assert states == {"dead": "KILLED", "elsewhere": "RUNNING"}
