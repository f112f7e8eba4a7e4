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
    """What a command took.

    status: its exit status, negative the signal that ended it; seconds: wall time;
    peak_process_bytes: the most resident memory of its largest process, as the kernel counted;
    peak_tree_bytes: the most resident memory of it and all its descendants together, sampled.
    Files that are mapped count while their pages are in memory.
    """

    status: int
    seconds: float
    peak_process_bytes: int
    peak_tree_bytes: int


def run(line: Sequence[str], environment: Mapping[str, str]) -> Usage:
    """Run a command to its end.

    The kernel's count of a child begins with what this process holds when it starts it, so this
    should be a small one.
    """
    started = time.perf_counter()
    process = subprocess.Popen(line, env=environment)
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
    """Return the memory that a process and its descendants hold now."""
    return sum(map(_rss_bytes, _tree(pid)))


class _Sampler:
    """Keeps the most memory that a process and its descendants were seen to hold, in bytes."""

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
    """Return the memory a process holds now, 0 where it has ended."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it has ended meanwhile
        return ""
