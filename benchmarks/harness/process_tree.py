"""Run a command and measure the memory of all its processes, on Linux."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.2


@dataclass(frozen=True)
class Usage:
    """Time and memory of a command.

    status: exit status, or minus the number of the signal that ended it; seconds: wall time;
    peak_process_bytes: peak resident memory of its largest process, counted by the kernel;
    peak_tree_bytes: peak resident memory of all its processes together, sampled. Mapped files count
    while their pages are in memory.
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
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    sampler = _Sampler(process.pid)
    try:
        with sampler:
            _, wait_status, resources = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(wait_status)
    return Usage(
        status=process.returncode,
        seconds=time.perf_counter() - started,
        peak_process_bytes=resources.ru_maxrss * 1024,
        peak_tree_bytes=max(sampler.peak, resources.ru_maxrss * 1024),
    )


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    return sum(map(_rss_bytes, _tree(pid)))


class _Sampler:
    """Samples the peak resident memory of a process and its descendants, in bytes."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.peak = max(self.peak, rss_bytes(self._pid))


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(listing).split():
            yield from _tree(int(child))


def _rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if it has ended."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process has ended
        return ""
