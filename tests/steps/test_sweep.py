"""The step `sweep` on a real tracking store: its points are finished evaluations, or fail."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.metrics.model_metrics import COLUMNS
from slmflow.pipeline import runs, step, step_runner
from slmflow.pipeline.stale_runs import LOCK_TAG
from slmflow.reports import markdown as md
from slmflow.sweeps.arguments import parse_arguments
from slmflow.sweeps.context import POINT
from slmflow.sweeps.report import BEST, FRONT
from steps.register import register
from steps.sweep import sweep
from tests.registry.finished_runs import finish_evaluation, newest_run

pytestmark = pytest.mark.usefixtures("module_tracking")

KEY = "generation.max_new_tokens"
# Test machines have no DirectML: the point fails at once.
FAILING = "dml_int4"


def _sweep(*arguments: str) -> tuple[int, Run, list[Run]]:
    """Return the exit status, the sweep's run, and the points' runs in order."""
    status = step_runner.run("sweep", sweep, arguments, parse_arguments)
    run = newest_run("sweep")
    below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    points = MlflowClient().search_runs(["0"], below, order_by=["start_time ASC"])
    return status, run, list(points)


def _evaluate(**metrics: float | None) -> str:
    """Finish an evaluation with these metrics; return its `generation.max_new_tokens`."""
    arguments, _ = finish_evaluation(**metrics)
    return arguments[-1].partition("=")[2]


@pytest.fixture
def three() -> list[str]:
    """Evaluations: slow and right, fast and nearly right, and dominated by the second."""
    return [
        _evaluate(exact_match=1.0, latency_ms_p50=50.0, peak_rss_mb=900.0),
        _evaluate(exact_match=0.9, latency_ms_p50=10.0, peak_rss_mb=400.0),
        _evaluate(exact_match=0.9, latency_ms_p50=12.0, peak_rss_mb=400.0),
    ]


@pytest.mark.parametrize("launcher", ["serial", pytest.param("joblib", marks=pytest.mark.long)])
def test_each_point_is_a_child_run_with_metrics(three: list[str], launcher: str) -> None:
    status, run, points = _sweep(f"{KEY}={','.join(three)}", f"sweep.launcher={launcher}")

    assert status == 0
    points.sort(key=lambda point: three.index(point.data.params[KEY]))
    names = [f"{KEY}={value}" for value in three]
    assert {point.info.status for point in points} == {"FINISHED"}
    assert [point.data.tags[POINT] for point in points] == names
    titles = [f"tiny_phi3 cpu_int4 max{value}" for value in three]
    assert [point.info.run_name for point in points] == titles
    assert [point.data.params[KEY] for point in points] == three
    assert [point.data.metrics["genai.exact_match"] for point in points] == [1.0, 0.9, 0.9]
    assert run.data.params[KEY] == ",".join(three)
    counts = {"measured": 0, "reused": 3, "given_up": 0, "failed": 0}
    assert run.data.metrics == {f"points.{outcome}": count for outcome, count in counts.items()}
    best = next(point for point in points if BEST in point.data.tags)
    note = run.data.tags["mlflow.note.content"]
    link = f"[{md.text(best.data.tags[POINT])}](#/experiments/0/runs/{best.info.run_id})"
    assert note.startswith(f"**The best point is {link}**")
    assert all(each.info.run_id in note for each in points)
    assert "| point&emsp; | exact_match&emsp; | token_f1&emsp; | latency_ms_p50&emsp; |" in note
    assert "2 on the front of `max exact_match` and `min latency_ms_p50`" in note


def test_comparison_has_all_points_and_swept_keys(three: list[str]) -> None:
    _, run, _ = _sweep(f"{KEY}={','.join(three)}")

    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/comparison.json")
    key, *columns = table["columns"]
    assert key == KEY
    assert columns[: len(COLUMNS)] == list(COLUMNS)
    assert [row[0] for row in table["data"]] == [int(v) for value in three for v in (value, value)]
    assert [row[1] for row in table["data"]] == ["transformers", "genai"] * 3
    for plot in ("front.png", "parallel.png"):
        file = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/{plot}")
        assert Path(file).read_bytes().startswith(b"\x89PNG")


def test_front_and_best_point_are_tagged(
    three: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run, points = _sweep("sweep.constraints=peak_rss_mb<500", f"{KEY}={','.join(three)}")

    assert [point.data.tags.get(FRONT) for point in points] == ["true", "true", None]
    assert [point.data.tags.get(BEST) for point in points] == [None, "true", None]
    assert run.data.tags[BEST] == points[1].info.run_id
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"best of 3 points: {KEY}={three[1]} (")


@pytest.mark.parametrize("goal", [pytest.param("best", marks=pytest.mark.long), "front"])
def test_search_runs_each_point_once_and_finds_best(three: list[str], goal: str) -> None:
    arguments = (f"{KEY}={','.join(three)}", f"sweep.search={goal}", "sweep.trials=12")

    status, run, points = _sweep(*arguments)

    assert status == 0
    children = {point.data.tags[POINT]: point for point in points}
    names = [f"{KEY}={value}" for value in three]
    assert len(points) == len(children)
    assert set(children) == set(names)
    assert run.data.metrics["points.reused"] == 3
    assert run.data.tags[BEST] == children[names[0]].info.run_id
    assert [children[name].data.tags.get(FRONT) for name in names] == ["true", "true", None]


def test_suggested_command_registers_the_best_model(three: list[str]) -> None:
    """Even if `register` itself ranks the transformers flavor higher."""
    arguments = [
        f"{KEY}={three[1]}",
        "registry.flavor=genai",
        "registry.gate.exact_match.max_drop=1",
        "registry.name=swept",
    ]
    assert step_runner.run("register", register, arguments) == 0

    [version] = MlflowClient().search_model_versions("name='swept'")
    assert version.tags["slmflow_latency_ms_p50"] == "10.0"


@pytest.mark.parametrize("is_allowed", [False, True])
def test_failed_point_keeps_the_others(
    is_allowed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, _ = finish_evaluation("target=cpu_int8", exact_match=0.75)
    allow = f"sweep.allow_failures={str(is_allowed).lower()}"

    status, run, points = _sweep(f"target={FAILING},cpu_int8", arguments[-1], allow)

    assert (status, run.info.status) == ((0, "FINISHED") if is_allowed else (1, "FAILED"))
    assert [point.info.status for point in points] == ["FAILED", "FINISHED"]
    summary = f"1 of 2 points failed:\ntarget={FAILING}: target={FAILING}: the installed ONNX"
    assert is_allowed or run.data.tags[runs.ERROR].startswith(summary)
    assert run.data.metrics["points.failed"] == 1
    artifacts = MlflowClient().list_artifacts(run.info.run_id)
    assert "comparison.json" in [file.path for file in artifacts]
    shown = capsys.readouterr().err
    assert "best of 1 points: target=cpu_int8" in shown
    assert ("warning: 1 of 2 points failed" in shown) is is_allowed
    assert "Traceback" not in shown
    log = mlflow.artifacts.load_text(f"runs:/{points[0].info.run_id}/log.txt")
    assert f"error: target={FAILING}" in log


def test_sweep_fails_if_every_point_fails() -> None:
    status, run, _ = _sweep(f"target={FAILING},cuda_int4", "sweep.allow_failures=true")

    assert (status, run.info.status) == (1, "FAILED")
    assert "2 of 2 points failed" in run.data.tags[runs.ERROR]


def test_equivalent_points_are_measured_once() -> None:
    value = _evaluate(exact_match=0.5)

    status, _, points = _sweep("generation.temperature=0,0.0", f"{KEY}={value}")

    assert status == 0
    assert [point.data.metrics.get("genai.exact_match") for point in points] == [0.5, 0.5]


def test_next_sweep_marks_runs_of_dead_sweep_as_killed(three: list[str], tmp_path: Path) -> None:
    """As kill -9 leaves them: the sweep's run FAILED or RUNNING, the runs below it RUNNING."""
    client = MlflowClient()
    _, run, _ = _sweep(f"{KEY}={three[0]},{three[1]}")
    node = run.data.tags[LOCK_TAG].partition(":")[0]
    left = {}
    for name, machine, state in (
        ("dead", node, "FAILED"),
        ("elsewhere", "another-machine", "RUNNING"),
    ):
        tags = {runs.STEP: "sweep", LOCK_TAG: f"{machine}:{tmp_path}/lock"}
        parent = client.create_run("0", tags=tags).info.run_id
        point = client.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id
        client.update_run(parent, state)
        left[name] = client.create_run("0", tags={"mlflow.parentRunId": point}).info.run_id

    _sweep(f"{KEY}={three[0]},{three[1]}")

    states = {name: client.get_run(run_id).info.status for name, run_id in left.items()}
    assert states == {"dead": "KILLED", "elsewhere": "RUNNING"}
