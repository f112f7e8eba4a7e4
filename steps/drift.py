"""Compare the newest served requests with what was measured when the version was registered.

mlflow run . -e drift --env-manager uv -P model_uri=models:/slmflow-tiny_phi3@champion
python -m steps.drift drift.model_uri=models:/slmflow-tiny_phi3@champion drift.since=7d
"""

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.monitoring import figures, findings, registration, report
from slmflow.pipeline import served_traces
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def drift(step: Step) -> None:
    """Compare the figures, log and show them.

    Raises UserError if there are too few requests, or with every limit that is exceeded.
    """
    settings = step.config.drift
    version = registration.read(step.config)
    traced = served_traces.read(
        "drift", settings.experiment, settings.last, settings.since, version.model_id
    )
    requests = [request for request in traced if request.adapter is None]
    if len(requests) < settings.least:
        where = settings.experiment or "this experiment"
        raise UserError(
            f"only {len(requests)} requests to {version.model_uri} are traced in {where}, and "
            f"drift.least={settings.least}: nothing is compared. Serve it with "
            "serve.tracing=usage or content, name the server's experiment with "
            "drift.experiment=NAME, or wait for more"
        )
    now = figures.of_served(requests, settings.refusals, settings.least)
    found = findings.compare(version.figures, now, settings.limits)
    report.log(version, now, found, len(requests))
    report.show(version, found, len(requests))
    if missing := findings.not_compared(found, now):
        messages.warning(f"not compared: {', '.join(missing)}")
    if few := findings.from_few_rows(found, version.figures):
        messages.warning(
            f"rows at registration are few: {', '.join(few)}. Register a version with more: "
            "latencies need measurement.timed_rows, the others rows of the evaluation"
        )
    exceeded = [
        f"{each.figure} is {each.now:.4g}, and was {each.before:.4g}: {limit}"
        for each in found
        for limit in each.exceeded
    ]
    if exceeded:
        raise UserError("\n".join([f"{version.model_uri} has drifted:", *exceeded]))


if __name__ == "__main__":
    run_step("drift", drift)
