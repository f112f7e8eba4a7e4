"""The sources of a comparison: its runs, the machine, the parity of the conversion."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow import MlflowClient

from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.pipeline import runs
from slmflow.pipeline.results import Measurements, OnnxModel
from slmflow.pipeline.step import Step
from slmflow.reports import parity


@dataclass(frozen=True)
class ComparisonSources:
    """The runs and settings behind a comparison.

    runs: run ids by content, all of one experiment; parity: the metrics of convert that begin with
    one of `parity.PREFIXES`, empty without a conversion; machine: facts about the machine by name;
    settings: the rows and the generation options by name.
    """

    experiment_id: str
    runs: dict[str, str]
    parity: dict[str, float]
    machine: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)


def find_provenance(
    step: Step, measurements: Measurements, models: Sequence[EvaluatedModel]
) -> ComparisonSources:
    """Return the provenance of evaluate's comparison of these models."""
    experiment_id = step.run.info.experiment_id
    conversion = None
    if step.config.evaluation.model_uri is None:
        conversion = runs.newest_run_id(OnnxModel, step.key(OnnxModel), experiment_id)
    run_ids = {
        "comparison": step.run.info.run_id,
        **{f"answers of {model.metrics.flavor}": model.run_id for model in models},
        "measurements": measurements.run_id,
        "conversion": conversion,
    }
    return ComparisonSources(
        experiment_id=experiment_id,
        runs={content: run_id for content, run_id in run_ids.items() if run_id},
        parity=_parity(conversion) if conversion else {},
        machine=measurements.machine,
        settings=_settings(step.config),
    )


def _settings(config: Config) -> dict[str, str]:
    """Return the data and those options of the requests that are set."""
    data, generation = config.evaluation, config.generation
    is_converted_here = data.model_uri is None
    template = ", ".join(f"{name}={value}" for name, value in generation.template.items())
    settings = {
        "model": config.model.uri if is_converted_here else None,
        "data": _data(data),
        "limit": data.limit,
        "system": data.system,
        "template": data.template,
        "examples": data.examples,
        "temperature": generation.temperature if is_converted_here else None,
        "max new tokens": generation.max_new_tokens if is_converted_here else None,
        "template variables": template or None if is_converted_here else None,
    }
    return {name: str(value) for name, value in settings.items() if value is not None}


def _data(data: EvaluationData) -> str:
    """Return where the rows are from."""
    if data.dataset is not None:
        return f"{data.dataset.file} of {data.name}"
    if data.traces is not None:
        return f"traces of {data.traces.experiment or 'the same experiment'}"
    return str(data.data)


def _parity(run_id: str) -> dict[str, float]:
    metrics = MlflowClient().get_run(run_id).data.metrics
    return {name: value for name, value in metrics.items() if name.startswith(parity.PREFIXES)}
