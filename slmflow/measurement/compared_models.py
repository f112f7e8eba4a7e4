"""The models that an evaluation compares."""

from slmflow.console import messages
from slmflow.measurement import execution_providers
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline import keys
from slmflow.pipeline.results import LoggedModel, Measurements
from slmflow.pipeline.step import Step


def ensure(step: Step) -> list[MeasuredModel]:
    """Return the model of `evaluation.model_uri`, or the flavors to compare, ensured in order."""
    if model_uri := step.config.evaluation.model_uri:
        if step.config.generation.template:
            messages.warning(
                f"generation.template has no effect: {model_uri} answers with the variables of its "
                "chat template that it was logged with"
            )
        return [MeasuredModel.from_uri(model_uri)]
    execution_providers.check(step.config.target)
    return [ensure_model(step, kind) for kind in Measurements.inputs(step.config)]


def ensure_model(step: Step, kind: type[LoggedModel]) -> MeasuredModel:
    """Return a flavor to measure, logged by its step."""
    return MeasuredModel.from_logged(
        step.ensure(kind),
        step.key(kind),
        step.config.model.name,
        keys.scores_key(kind, step.config),
    )
