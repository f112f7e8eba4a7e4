"""Run tasks of lm-evaluation-harness: `python -m slmflow.measurement.harness.lm_eval_worker JOB`.

JOB is a file: {"tasks": ["arc_easy"], "folder": null, "model": null}. Without a model, the tasks
are loaded, and standard output gets {"columns": [...]} or {"problems": ["..."]}. With {"uri": ...,
"key": ..., "name": ..., "limit": null, "system": null, "seed": 0} as the model, they run on it. The
output is some {"kind": "likelihoods", "done": 8, "total": 40}, and {"results": {...}, "report":
{...}}; the report is the harness's own, with its results, configurations, versions and samples.
What libraries print goes to standard error.
"""

import dataclasses
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from lm_eval.api import metrics as aggregations
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from slmflow.errors import UserError
from slmflow.measurement.harness import text_models
from slmflow.measurement.harness.lm_eval_model import HarnessModel
from slmflow.measurement.harness.task_records import TaskColumn, TaskMetric, TaskResults
from slmflow.measurement.journal import Journal
from slmflow.runtime.unknown_names import closest, did_you_mean
from slmflow.system.child_processes import claim_stdout, terminate_with_parent

Send = Callable[[dict[str, Any]], None]

_JOURNAL = "lm_eval"

# The seeds of `lm_eval` on the command line: of examples and of what a task draws.
_SEED, _EXAMPLE_SEED = 0, 1234

_HUB_ERRORS = (
    *("ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"),
    *("DatasetNotFoundError", "ConnectTimeout", "ProxyError", "MaxRetryError"),
)


class _Problems(Exception):
    """Why tasks cannot run, one line each."""


def _load_tasks(names: Sequence[str], folder: str | None) -> dict[str, Any]:
    """Return tasks and groups by name, as the harness's `TaskManager.load` does.

    Raises _Problems with those of all tasks.
    """
    manager = _task_manager(names, folder)
    loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    problems = []
    for name in names:
        if name not in manager.all_tasks:
            problems.append(_describe_unknown(name, manager.all_tasks, folder))
            continue
        if (manager.task_index[name].cfg or {}).get("unsafe_code"):
            problems.append(_describe_unsafe(name))
            continue
        try:
            task = manager.load([name])
        except Exception as error:  # a task's own code may raise anything
            problems.append(_describe_failure(name, manager, error))
            continue
        for each in task["tasks"].keys() & loaded["tasks"].keys():
            problems.append(f"evaluation.tasks: {each} is given twice: leave one out")
        problems += _unsupported(task["tasks"])
        for part, values in loaded.items():
            values |= task.get(part) or {}
    if problems:
        raise _Problems("\n".join(problems))
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=_EXAMPLE_SEED)
    return loaded


def _task_manager(names: Sequence[str], folder: str | None) -> Any:
    """Return the manager of the user's own tasks; of the harness's too if one is not among them.

    To read the files of all tasks of the harness takes many seconds.
    """
    if folder is not None:
        own = TaskManager(include_path=folder, include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    return TaskManager(include_path=folder)


def _describe_unknown(name: str, known: Sequence[str], folder: str | None) -> str:
    hint = did_you_mean(closest(name, known, most=3))
    where = f"or of {folder}" if folder else "; give the folder of your own in task_folder"
    return f"evaluation.tasks: {name!r} is no task of lm-evaluation-harness {where}.{hint}".replace(
        " ;", ";"
    )


def _describe_failure(name: str, manager: Any, error: Exception) -> str:
    chain = list(_causes(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0] if lines else ''}"
    if any(type(each).__name__ in _HUB_ERRORS for each in chain):
        entry = manager.task_index.get(name)
        dataset = (entry.cfg or {}).get("dataset_path") if entry else None
        data = f"the dataset {dataset}" if dataset else "its data"
        return (
            f"evaluation.tasks: {name} needs {data} of the hub, which cannot be reached or does "
            f"not have it ({cause}): run where the hub can be reached, or name a task with local "
            "data in evaluation.task_folder"
        )
    return f"evaluation.tasks: {name} cannot be loaded: {cause}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unsupported(tasks: Mapping[str, Any]) -> Iterator[str]:
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            yield _describe_unsafe(name)
        if getattr(task, "MULTIMODAL", False):
            yield f"evaluation.tasks: {name} needs images or audio: choose a task of texts"


def _describe_unsafe(name: str) -> str:
    return (
        f"evaluation.tasks: {name} runs code that the model writes, which slmflow never does: "
        "choose another task"
    )


def _columns(names: Sequence[str], loaded: Mapping[str, Any]) -> dict[TaskColumn, list[str]]:
    """Return the columns of the tasks and groups that the user named, each with its tasks.

    A group that defines no metric of its own stands for its tasks.
    """
    columns: dict[TaskColumn, list[str]] = {}
    hidden = set()
    for name in names:
        group = loaded["groups"].get(name)
        if group is not None and group.has_aggregation:
            members = [task.task_name for task in group.get_all_tasks()]
            hidden |= set(members)
            columns |= dict.fromkeys(_group_columns(name, group, loaded["tasks"]), members)
    for name, task in loaded["tasks"].items():
        if name not in hidden:
            columns |= {column: [name] for column in _task_columns(name, task)}
    return columns


def _group_columns(name: str, group: Any, tasks: Mapping[str, Any]) -> Iterator[TaskColumn]:
    first = next(iter(group.get_all_tasks()))
    of_task = list(_task_columns(name, tasks[first.task_name]))
    for aggregated in group.aggregate_metric_list:
        filters = aggregated.filter_list
        for column in of_task:
            if column.metric == aggregated.metric and (not filters or column.filter in filters):
                weighting = "pooled mean" if aggregated.weight_by_size else "mean of tasks"
                yield dataclasses.replace(column, aggregation=weighting)


def _task_columns(name: str, task: Any) -> Iterator[TaskColumn]:
    directions = task.higher_is_better()
    for metric, function in task.aggregation().items():
        for each in task._filters:
            yield TaskColumn(
                task=name,
                metric=metric,
                filter=each.name,
                shots=int(task.get_config("num_fewshot") or 0),
                aggregation=getattr(function, "__name__", "custom"),
                higher_is_better=directions.get(metric) is not False,
            )


def _metrics(
    columns: Mapping[TaskColumn, Sequence[str]], report: Mapping[str, Any]
) -> Iterator[TaskMetric]:
    """Yield the metrics that were measured; some exist only for some answers or tasks."""
    for column, members in columns.items():
        value = report["results"].get(column.task, {}).get(f"{column.metric},{column.filter}")
        if isinstance(value, int | float) and np.isfinite(value):
            rows = [_rows(column, report["samples"][name]) for name in members]
            yield TaskMetric(column, float(value), _combine(column, rows))


def _rows(column: TaskColumn, samples: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return score and weight of each row; an empty list if they have another form."""
    scores = [
        sample[column.metric]
        for sample in samples
        if sample["filter"] == column.filter and column.metric in sample
    ]
    pairs = [score if isinstance(score, tuple | list) else (score, 1.0) for score in scores]
    try:
        return [(float(score), float(weight)) for score, weight in pairs]
    except (TypeError, ValueError):
        return []


def _combine(
    column: TaskColumn, rows: Sequence[list[tuple[float, float]]]
) -> tuple[tuple[float, float], ...]:
    if column.aggregation not in _SUMMED or not all(rows):
        return ()
    if column.aggregation == "mean of tasks":
        rows = [[(s / len(task), w / len(task)) for s, w in task] for task in rows]
    return tuple(row for task in rows for row in task)


_SUMMED = (
    *(f.__name__ for f in (aggregations.mean, aggregations.perplexity)),
    *(f.__name__ for f in (aggregations.weighted_perplexity, aggregations.bits_per_byte)),
    *("pooled mean", "mean of tasks"),
)
"""Aggregations that are a function of the quotient of two sums over the rows."""


def _run(job: Mapping[str, Any], send: Send) -> None:
    settings = job["model"]
    loaded = _load_tasks(job["tasks"], job["folder"])
    columns = _columns(job["tasks"], loaded)
    folder = mlflow.artifacts.download_artifacts(settings["uri"])
    model = text_models.load(mlflow.pyfunc.load_model(folder), Path(folder))
    harness_model = HarnessModel(
        model,
        Journal(_JOURNAL, settings["key"], settings["name"]) if settings["key"] else None,
        settings["seed"],
        lambda kind, done, total: send({"kind": kind, "done": done, "total": total}),
    )
    random.seed(_SEED)
    np.random.seed(_EXAMPLE_SEED)
    report = evaluate(
        harness_model,
        task_dict=loaded,
        limit=settings["limit"],
        bootstrap_iters=0,  # our own intervals compare models, too
        system_instruction=settings["system"],
        apply_chat_template=model.takes_messages,
        fewshot_as_multiturn=model.takes_messages,
    )
    metrics = tuple(_metrics(columns, report))
    rows = sum(each["effective"] for each in report["n-samples"].values())
    results = TaskResults(metrics, rows, _digest(report["samples"]))
    plain = json.loads(json.dumps(_shorten(report), default=str))
    send({"results": dataclasses.asdict(results), "report": plain})


def _digest(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = [[name, *(each["doc_hash"] for each in of_task)] for name, of_task in samples.items()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _shorten(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without the prompts, which repeat the examples in every row."""
    samples = {
        name: [{k: v for k, v in sample.items() if k != "arguments"} for sample in rows]
        for name, rows in report["samples"].items()
    }
    return {**report, "samples": samples}


def _main() -> None:
    terminate_with_parent()
    stdout = claim_stdout()
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["folder"] is not None:
        os.chdir(job["folder"])  # a task's data files are relative to it

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=stdout, flush=True)

    try:
        if job["model"] is not None:
            _run(job, send)
            return
        columns = _columns(job["tasks"], _load_tasks(job["tasks"], job["folder"]))
        send({"columns": [dataclasses.asdict(column) for column in columns]})
    except _Problems as problems:
        send({"problems": str(problems).splitlines()})
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
