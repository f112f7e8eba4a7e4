"""Where a comparison comes from: the runs behind it, the machine, the parity of the conversion."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlflow import MlflowClient

from slmflow.config.schema.config import Config
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.pipeline import runs
from slmflow.pipeline.results import Measurements, OnnxModel
from slmflow.pipeline.step import Step

_PREFIX = "parity."


@dataclass(frozen=True)
class Provenance:
    """What a comparison rests on.

    runs: the ids of runs of one experiment, by what they hold, in words; parity: the metrics
    `parity.*` of convert, by what follows the dot, none where nothing was converted; machine: what
    was measured on, by name, in words; asked: the rows and the options of the answers, likewise.
    """

    experiment_id: str
    runs: dict[str, str]
    parity: dict[str, float]
    machine: dict[str, str]
    asked: dict[str, str] = field(default_factory=dict)


def find_provenance(
    step: Step, measurements: Measurements, compared: Sequence[EvaluatedModel]
) -> Provenance:
    """Return what evaluate's comparison of these models comes from."""
    experiment_id = step.run.info.experiment_id
    converted = None
    if len(compared) > 1:
        converted = runs.newest(OnnxModel, step.key(OnnxModel), experiment_id)
    found = {
        "comparison": step.run.info.run_id,
        **{f"rows of {each.figures.flavor}": each.run_id for each in compared},
        "measurements": measurements.run_id,
        "conversion": converted,
    }
    return Provenance(
        experiment_id=experiment_id,
        runs={holds: run_id for holds, run_id in found.items() if run_id},
        parity=_parity(converted) if converted else {},
        machine=measurements.machine,
        asked=_asked(step.config),
    )


def _asked(config: Config) -> dict[str, str]:
    """Return the rows and, of what is sent with them, what is set."""
    data, generation = config.evaluation, config.generation
    made_here = data.model_uri is None
    found = {
        "rows": str(data.data) if data.dataset is None else f"{data.dataset.file} of {data.name}",
        "first": data.limit,
        "system": data.system,
        "template": data.template,
        "examples": data.examples,
        "temperature": generation.temperature if made_here else None,
        "most new tokens": generation.max_new_tokens if made_here else None,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _parity(run_id: str) -> dict[str, float]:
    found = MlflowClient().get_run(run_id).data.metrics
    return {
        name.removeprefix(_PREFIX): value
        for name, value in found.items()
        if name.startswith(_PREFIX)
    }
