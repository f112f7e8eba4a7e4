"""Run a command and measure the memory of all its processes, on Linux."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

SAMPLE_S = 0.1


@dataclass(frozen=True)
class Usage:
    """Time and memory of a command.

    status: exit status, or minus the number of the signal that ended it; seconds: wall time, up to
    0.1 too long; peak_process_bytes: peak resident memory of its largest process, counted by the
    kernel; peak_tree_bytes: peak resident memory of all its processes together, sampled. Mapped
    files count while their pages are in memory.
    """

    status: int
    seconds: float
    peak_process_bytes: int
    peak_tree_bytes: int


def run(command: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command to its end.

    The kernel counts the parent's memory at the start as the child's, so call this from a small
    process.
    """
    peak = 0
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    try:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, rss_bytes(process.pid))
            time.sleep(SAMPLE_S)
    except BaseException:
        process.kill()
        raise
    _, wait_status, resources = ended
    process.returncode = os.waitstatus_to_exitcode(wait_status)
    return Usage(
        status=process.returncode,
        seconds=time.perf_counter() - started,
        peak_process_bytes=resources.ru_maxrss * 1024,
        peak_tree_bytes=max(peak, resources.ru_maxrss * 1024),
    )


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants that have not ended."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total
