"""Tasks of lm-evaluation-harness: check them before any work, and run them on models.

The harness is an optional package, and a task may run code of its own (`!function` in its file). So
both happen in child processes.
"""

import functools
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import mlflow
from rich.progress import Progress, TaskID

from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.console import progress_bars
from slmflow.errors import BadArguments, UserError
from slmflow.measurement import worker_job
from slmflow.measurement.harness.task_records import TaskColumn, TaskResults, duplicate_names
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement
from slmflow.paths import PROJECT
from slmflow.pipeline import source_code

_WORKER = "slmflow.measurement.harness.lm_eval_worker"


def check(config: Config) -> tuple[TaskColumn, ...]:
    """Load the tasks of a config, and return the columns that they add to the comparison.

    Raises BadArguments, with all problems in one message, if the harness is not installed or a task
    does not exist or cannot be loaded.
    """
    data = config.evaluation
    if find_spec("lm_eval") is None:
        raise BadArguments(
            f"evaluation.tasks={','.join(data.tasks)}: lm_eval is not installed; run "
            "`uv pip install -r requirements-lm-eval.txt` and use --env-manager local, or evaluate "
            "on rows, with evaluation.data=FILE"
        )
    return _check(tuple(data.tasks), _folder(data))


@functools.cache
def _check(tasks: tuple[str, ...], folder: str | None) -> tuple[TaskColumn, ...]:
    job = {"tasks": tasks, "folder": folder, "model": None}
    offline = os.environ.get("HF_HUB_OFFLINE", "0")
    with progress_bars.spinner("loading the tasks"):
        messages = list(_talk(job, "evaluation.tasks", HF_HUB_OFFLINE=offline))
    [message] = messages
    if problems := message.get("problems"):
        raise BadArguments("\n".join(problems))
    columns = tuple(TaskColumn(**fields) for fields in message["columns"])
    if duplicates := duplicate_names(columns):
        raise BadArguments(
            f"evaluation.tasks: two metrics would have the column {duplicates[0]}: evaluate the "
            "tasks one by one"
        )
    return columns


def measure(config: Config, models: Sequence[MeasuredModel]) -> tuple[Measurement, ...]:
    """Run the tasks on each model, one after another, with progress bars.

    Logs the harness's own report on a model as `lm_eval/FLAVOR.json` to the active run. Raises
    UserError with the model and the last line of its error if a process fails.
    """
    check(config)
    with progress_bars.item_bar() as progress:
        return tuple(_measure(config, model, progress) for model in models)


def _measure(config: Config, model: MeasuredModel, progress: Progress) -> Measurement:
    data = config.evaluation
    job = {
        "tasks": data.tasks,
        "folder": _folder(data),
        "model": {
            "uri": model.model_uri,
            "key": _journal_key(model),
            "name": model.model_name,
            "limit": data.limit,
            "system": data.system,
            "seed": data.seed,
        },
    }
    subject = f"the {model.flavor} model {model.model_uri} could not be measured"
    results = None
    bars: dict[str, TaskID] = {}
    for message in _talk(job, subject):
        if problems := message.get("problems"):
            raise UserError("\n".join(problems))
        if "kind" in message:
            _show(progress, bars, model, message)
        if "report" in message:
            mlflow.log_dict(message["report"], f"lm_eval/{model.flavor}.json")
        results = message.get("results", results)
    if results is None:
        raise UserError(f"{subject}: its process ended without results")
    return Measurement(
        model=model,
        load_s=None,
        peak_rss_bytes=None,
        answers=(),
        likelihoods=None,
        tasks=TaskResults.from_json(results),
    )


def _journal_key(model: MeasuredModel) -> str:
    """Return what shapes the responses of a model besides the request; empty if not known."""
    if not model.key:
        return ""
    return f"{model.key}-{source_code.digest(_WORKER, PROJECT)[:16]}"


def _show(
    progress: Progress,
    bars: dict[str, TaskID],
    model: MeasuredModel,
    message: Mapping[str, Any],
) -> None:
    kind, total = message["kind"], message["total"]
    if kind not in bars:
        bars[kind] = progress.add_task(f"{model.flavor} {kind}", total=total)
    progress.update(bars[kind], completed=message["done"])


def _folder(data: EvaluationData) -> str | None:
    return None if data.task_folder is None else str((PROJECT / data.task_folder).absolute())


def _talk(job: Mapping[str, Any], subject: str, **variables: str) -> Iterator[dict[str, Any]]:
    """Yield the messages of a worker process. Raises UserError about the subject if it fails."""
    command = ("-P", "-m", _WORKER)
    with worker_job.start(command, job, stdin=subprocess.DEVNULL, **variables) as (process, log):
        for line in process.stdout or ():
            yield json.loads(line)
        if status := process.wait():
            worker_job.raise_failure(subject, status, log)
