"""Run groups of points as Ray tasks: Hydra's plugin for Ray excludes our pinned versions.

They run on the cluster that RAY_ADDRESS names, or else on one that this process starts here.
"""

import importlib
import logging
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from slmflow.config.schema.sweep import Sweep
from slmflow.errors import UserError
from slmflow.sweeps.context import SweepContext
from slmflow.sweeps.execution import worker
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Pruner
from slmflow.system import child_processes


def launch(
    groups: Sequence[Sequence[Point]],
    context: SweepContext,
    sweep: Sweep,
    pruner: Pruner | None,
) -> None:
    """Run every group, `sweep.workers` at a time, and return when all have ended.

    If a worker dies, each point of its group is retried alone, so that one point cannot fail the
    others. Raises UserError if the cluster is unusable, or the store on a worker; any exception
    cancels the running tasks.
    """
    ray = connect(sweep.workers)
    task = ray.remote(num_cpus=1, max_retries=0)(_run_group)
    threads = os.environ.get("OMP_NUM_THREADS")
    waiting, running = list(groups), dict[Any, Sequence[Point]]()
    try:
        while waiting or running:
            while waiting and len(running) < sweep.workers:
                group = waiting.pop(0)
                running[task.remote(group, context, pruner, threads)] = group
            [ended], _ = ray.wait(list(running))
            group = running.pop(ended)
            if not _is_completed(ray, ended) and len(group) > 1:
                waiting += [[point] for point in group]
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()
        raise


def connect(workers: int) -> Any:
    """Return the module `ray`, connected to a cluster until this process ends.

    Raises UserError if the cluster is unusable.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # On a cluster started here, the children of a worker end with the worker.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
    # Under `uv run`, Ray would send the whole working folder to its workers and start them in it.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    local = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    python_path = child_processes.environment()["PYTHONPATH"]
    sigterm_handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _check_reachable(address)
        ray.init(
            **({} if address else local),
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": {"PYTHONPATH": python_path}},
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"RAY_ADDRESS={address}: Ray is unavailable: {reason}. Set it to a cluster with the "
            "same versions of Ray and Python, or unset it to start a cluster on this machine"
            if address
            else f"Ray cannot start here: {reason}. Set RAY_TMPDIR to a folder with free space and "
            "a short path, or RAY_ADDRESS to a cluster"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, sigterm_handler)  # Ray replaces it
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _run_group(
    group: Sequence[Point], context: SweepContext, pruner: Pruner | None, threads: str | None
) -> None:
    """Run a group in a Ray worker, with the sweep's value of OMP_NUM_THREADS.

    Ray sets it to 1, which PyTorch follows and the GenAI runtime ignores.
    """
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads
    worker.run_group(group, context, pruner)


def _is_completed(ray: Any, task: Any) -> bool:
    """Return False if the worker of an ended task died. Raises what the task raised."""
    died = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    )
    try:
        ray.get(task)
    except died:
        return False  # the point's run is marked as killed
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return True
