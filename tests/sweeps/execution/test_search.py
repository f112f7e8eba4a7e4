"""A search with Optuna over finished evaluations."""

import pytest
from mlflow import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution

from slmflow.errors import BadArguments
from slmflow.pipeline import step_runner
from slmflow.sweeps import points
from slmflow.sweeps.arguments import parse_arguments
from slmflow.sweeps.context import POINT
from slmflow.sweeps.execution import search
from slmflow.sweeps.report import BEST, FRONT
from steps.sweep import sweep
from tests.registry.finished_runs import finish_evaluation, newest_run


def test_search_space_follows_overrides() -> None:
    overrides = ["target=cpu_int8,cpu_int4", "a=interval(0,1)", "b=tag(log,interval(1,8))", "c=1"]

    assert search.search_space(overrides) == {
        "target": CategoricalDistribution(["cpu_int8", "cpu_int4"]),
        "a": FloatDistribution(0, 1),
        "b": FloatDistribution(1, 8, log=True),
    }
    point = points.with_values(overrides, {"target": "cpu_int4", "a": "0.5", "b": "2"})
    assert point.overrides == ("target=cpu_int4", "a=0.5", "b=2", "c=1")
    assert point.name == "target=cpu_int4 a=0.5 b=2"


def test_both_ends_of_interval_are_validated() -> None:
    with pytest.raises(BadArguments, match=r"temperature=3\.0: must be between 0 and 2"):
        parse_arguments(["generation.temperature=interval(0,3)", "sweep.search=best"])


@pytest.mark.usefixtures("module_tracking")
@pytest.mark.parametrize("goal", [pytest.param("best", marks=pytest.mark.long), "front"])
def test_search_runs_each_point_once_and_finds_best(goal: str) -> None:
    pairs = [(1.0, 50.0), (0.9, 10.0), (0.9, 12.0)]
    evaluated = [finish_evaluation(exact_match=match, latency_ms_p50=ms)[0] for match, ms in pairs]
    values = [given[-1].partition("=")[2] for given in evaluated]
    arguments = (f"generation.max_new_tokens={','.join(values)}", f"sweep.search={goal}")

    assert step_runner.run("sweep", sweep, [*arguments, "sweep.trials=12"], parse_arguments) == 0

    run = newest_run("sweep")
    below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    children = {child.data.tags[POINT]: child for child in MlflowClient().search_runs(["0"], below)}
    names = [f"generation.max_new_tokens={value}" for value in values]
    assert set(children) == set(names)
    assert run.data.metrics["points.reused"] == 3
    assert run.data.tags[BEST] == children[names[0]].info.run_id
    assert [children[name].data.tags.get(FRONT) for name in names] == ["true", "true", None]
