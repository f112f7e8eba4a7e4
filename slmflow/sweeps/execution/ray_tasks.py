"""Hand batches of points to Ray, each as a task: Hydra's own plugin for that excludes our pins.

A cluster that RAY_ADDRESS names works on them, else one of this process's own, on this machine.
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
from slmflow.sweeps.context import Place
from slmflow.sweeps.execution import worker
from slmflow.sweeps.points import Point
from slmflow.sweeps.pruning import Front
from slmflow.system import child_processes


def launch(
    batches: Sequence[Sequence[Point]], place: Place, sweep: Sweep, front: Front | None
) -> None:
    """Have Ray work on every batch, `sweep.workers` at once; return when all have ended.

    Where a worker dies, each point of its batch is tried by itself, so that it takes no other with
    it. Raises UserError where the cluster cannot be used, or the store by a worker; what raises
    here ends all that is under way.
    """
    ray = connected(sweep.workers)
    task = ray.remote(num_cpus=1, max_retries=0)(_work)
    threads = os.environ.get("OMP_NUM_THREADS")
    waiting, running = list(batches), dict[Any, Sequence[Point]]()
    try:
        while waiting or running:
            while waiting and len(running) < sweep.workers:
                batch = waiting.pop(0)
                running[task.remote(batch, place, front, threads)] = batch
            [ended], _ = ray.wait(list(running))
            batch = running.pop(ended)
            if not _is_done(ray, ended) and len(batch) > 1:
                waiting += [[point] for point in batch]
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()
        raise


def connected(workers: int) -> Any:
    """Return the module `ray`, connected to its cluster; it stays so until this process ends.

    Raises UserError where the cluster cannot be used.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Of its own cluster: what a worker has started ends with it, and so do their children.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
    # Started by `uv run`, Ray would send its workers the whole working folder, and start them so.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    own = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    python_path = child_processes.environment()["PYTHONPATH"]
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _reach(address)
        ray.init(
            **({} if address else own),
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": {"PYTHONPATH": python_path}},
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"RAY_ADDRESS={address}: Ray cannot be used: {said}. Set it to a cluster of the same "
            "Ray and Python, or unset it for one on this machine"
            if address
            else f"Ray cannot start here: {said}. Set RAY_TMPDIR to a folder with room and a short "
            "path, or RAY_ADDRESS to a cluster"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, terminated)  # Ray takes it for itself
    return ray


def _reach(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself waits for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "//" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _work(batch: Sequence[Point], place: Place, front: Front | None, threads: str | None) -> None:
    """Work on a batch in a process of Ray's, with the sweep's `OMP_NUM_THREADS`.

    Ray sets 1, which PyTorch would go by and the GenAI runtime not.
    """
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads
    worker.work(batch, place, front)


def _is_done(ray: Any, task: Any) -> bool:
    """Return whether a task came to its end, or its worker died. Raises what the task raised."""
    died = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    )
    try:
        ray.get(task)
    except died:
        return False  # the point's run tells that it was ended from outside
    except ray.exceptions.RayTaskError as fault:
        raise fault.cause from fault
    return True
