"""Drift of traced requests, against versions of a real registry."""

from typing import Any

import mlflow
import pytest
from mlflow.models import Model

from slmflow.config import compose
from slmflow.errors import BadArguments
from slmflow.measurement.records import Answer
from slmflow.monitoring import figures
from slmflow.pipeline import runs
from slmflow.pipeline.step_runner import run
from steps.drift import drift
from tests.fixtures.traces import TracedServer
from tests.monitoring import versions
from tests.registry.finished_runs import log_echo_model, newest_run
from tests.steps.conftest import ReadErrors

MEASURED = [Answer("Tokyo", tokens, 3) for tokens in range(10, 30)]
LATENCIES_S = [0.1 + row / 1000 for row in range(20)]


class Served:
    """A registered version, and its server in an experiment of the test."""

    def __init__(self, name: str, latencies_s: list[float] = LATENCIES_S) -> None:
        """Log and register a model with these times of its first rows."""
        with mlflow.start_run():
            self._info = log_echo_model()
        self.name = name
        self.uri = versions.register(name, self._info.model_uri, MEASURED, latencies_s)
        assert Model.load(self.uri).model_id == self._info.model_id

    def server(self, level: str = "content") -> TracedServer:
        """Return what traces the requests of the version."""
        return TracedServer(level, self.uri, self._info.model_id)

    def drift(self, *arguments: str) -> int:
        """Run the step and return its exit status."""
        return run("drift", drift, [f"registry.name={self.name}", "drift.least=5", *arguments])


@pytest.fixture
def served(module_tracking: None, request: pytest.FixtureRequest) -> Served:
    """A version that only this test uses."""
    return Served(request.node.name)


def _answer_alike(server: TracedServer, *, times: int = 1, tokens: int = 0) -> None:
    """Trace the requests of the measurement, longer by `times` or with more tokens."""
    for answer, seconds in zip(MEASURED, LATENCIES_S, strict=True):
        assert answer.prompt_tokens is not None
        server.answer(
            "Capital of Japan?",
            "Tokyo",
            seconds=seconds * times,
            tokens=(answer.prompt_tokens + tokens, 3),
        )


def _result() -> dict[str, Any]:
    result: dict[str, Any] = mlflow.artifacts.load_dict(
        f"runs:/{newest_run('drift').info.run_id}/drift.json"
    )
    return result


def _figure(name: str) -> dict[str, Any]:
    return next(each for each in _result()["figures"] if each["figure"] == name)


def test_same_requests_have_not_drifted(served: Served, printed: ReadErrors) -> None:
    server = served.server("usage")
    _answer_alike(server)
    server.close()

    assert served.drift() == 0

    assert _result()["model_uri"] == served.uri
    assert _result()["requests"] == 20
    assert _figure("prompt_tokens_p50")["now"] == _figure("prompt_tokens_p50")["before"] == 19.5
    assert _figure("prompt_tokens_distance")["now"] == 0
    assert _figure("latency_ms_p50")["now"] == pytest.approx(110, abs=2)
    told = printed()
    assert "not compared: refusal_share (0 traces have the answer" in told
    assert "are few" not in told
    run_ = newest_run("drift")
    assert run_.data.metrics["drift.error_share"] == 0
    assert {"drift.json", "drift.png"} <= {
        file.path for file in mlflow.MlflowClient().list_artifacts(run_.info.run_id)
    }


def test_every_exceeded_limit_is_named(served: Served, printed: ReadErrors) -> None:
    server = served.server()
    _answer_alike(server, times=3, tokens=30)
    for _ in range(5):
        server.answer("And why?", "I\u2019m sorry, but I cannot tell.", tokens=(49, 3), seconds=0.3)
    for kind in ("rejected", "failed"):
        server.fail("too long?", kind)
    server.close()

    assert served.drift() == 1

    told = printed()
    assert f"{served.uri} has drifted" in told
    for limit in (
        "prompt_tokens_p50.max_ratio=2, 2.",
        "latency_ms_p50.max_ratio=1.5, 2.",
        "latency_ms_p95.max_ratio=2, 2.",
        "error_share.max_rise=0.02, higher by 0.0385",
        "refusal_share.max_rise=0.05, higher by 0.2",
    ):
        assert f"drift.limits.{limit}" in told
    assert "output_tokens" not in newest_run("drift").data.tags[runs.ERROR]
    assert _figure("prompt_tokens_distance")["now"] == 1
    assert _result()["is_beyond_limits"]


def test_rejected_requests_are_no_errors(served: Served, printed: ReadErrors) -> None:
    server = served.server("usage")
    _answer_alike(server)
    for _ in range(5):
        server.fail("word " * 9)
    server.close()

    assert served.drift() == 0
    assert (_figure("error_share")["now"], _figure("rejected_share")["now"]) == (0, 0.2)
    assert served.drift("drift.limits.rejected_share.max_rise=0.1") == 1
    assert "rejected_share is 0.2, and was 0" in printed()


def test_rows_left_out_at_registration_are_no_errors(module_tracking: None) -> None:
    unanswered = Answer("", None, None, error="the prompt has 900 tokens")
    before = figures.of_measurement(
        versions.measurement("models:/m", [*MEASURED, *[unanswered] * 5], LATENCIES_S), {}, []
    )
    assert before.values["error_share"] == 0
    assert before.values["rejected_share"] == 0.2


def test_few_timed_rows_are_named(
    module_tracking: None, request: pytest.FixtureRequest, printed: ReadErrors
) -> None:
    served = Served(request.node.name, LATENCIES_S[:3])
    server = served.server("usage")
    _answer_alike(server)
    server.close()

    assert served.drift() == 0
    told = printed()
    assert "rows at registration are few: latency_ms_p50 by 3, latency_ms_p95 by 3. Reg" in told


def test_limits_can_be_changed(served: Served) -> None:
    server = served.server("usage")
    _answer_alike(server, times=3)
    server.close()
    limits = [f"drift.limits.latency_ms_{end}.max_ratio=null" for end in ("p50", "p95")]
    assert served.drift() == 1
    assert served.drift(*limits) == 0
    assert served.drift(*limits, "drift.limits.output_tokens_distance.max_rise=0.1") == 0
    assert served.drift(*limits, "drift.limits.latency_ms_distance.max_rise=0.9") == 1


def test_answers_of_people_are_compared(served: Served, printed: ReadErrors) -> None:
    server = served.server()
    _answer_alike(server)
    traces = server.close()[:20]
    for number, trace_id in enumerate(traces[:8]):
        value = "Tokyo" if number < 4 else "Kyoto"
        mlflow.log_expectation(trace_id=trace_id, name="expected_response", value=value)

    assert served.drift() == 1

    assert _figure("exact_match")["now"] == 0.5
    assert "exact_match is 0.5, and was 0.9: drift.limits.exact_match.max_drop=0.1" in printed()


def test_too_few_requests_do_not_pass(served: Served, printed: ReadErrors) -> None:
    server = served.server("usage")
    for _ in range(3):
        server.answer("Capital of Japan?", "Tokyo")
    server.close()
    other = TracedServer("usage", "models:/other/1", "m-other")
    for _ in range(9):
        other.answer("Capital of Japan?", "Tokyo")
    other.close()

    assert served.drift() == 1
    assert f"only 3 requests to {served.uri} are traced" in printed()


def test_invalid_arguments_are_explained(served: Served, printed: ReadErrors) -> None:
    for argument, told in {
        "drift.model_uri=models:/absent@champion": "no model can be read from there",
        "drift.experiment=absent": "there is no such experiment",
        "drift.limits.speed.max_drop=1": "drift.limits.speed: no figure; there are",
        "drift.limits.error_share.max_rise=-1": "must be a number of at least 0",
        "drift.least=1000": "must be 1 to drift.last=500",
        "drift.since=soon": "give a date such as",
    }.items():
        assert served.drift(argument) == 2
        assert told in printed()


def test_version_of_another_tool_is_explained(served: Served, printed: ReadErrors) -> None:
    version = mlflow.MlflowClient().create_model_version(served.name, served._info.model_uri)
    assert served.drift(f"drift.model_uri=models:/{served.name}/{version.version}") == 1
    assert "only a version that slmflow registered has figures" in printed()
    assert served.drift(f"drift.model_uri={served._info.model_uri}") == 2
    assert "only a registered version" in printed()


def test_default_limits_name_figures() -> None:
    assert compose.load([]).drift.limits
    with pytest.raises(BadArguments, match="item 0 is blank"):
        compose.load(["drift.refusals=['']"])
