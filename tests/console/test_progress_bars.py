"""Progress of long work, written into a real pipe and a real terminal."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slmflow.console import progress_bars
from slmflow.system import child_processes

# Works until its standard input has a line.
_WORK = """
import sys
from slmflow.console import library_output, progress_bars
progress_bars.LINE_INTERVAL_S = {interval}
{block}
"""
_ITEMS = """
with progress_bars.item_bar() as progress:
    done = progress.add_task("loads", total=1)
    progress.advance(done)
    rows = progress.add_task("answers [1]", total=40)
    progress.update(rows, completed=10)
    progress.advance(rows)
    open_end = progress.add_task("warms up", total=None)
    sys.stdin.readline()
"""
_BYTES = """
with progress_bars.byte_bar() as progress:
    progress.advance(progress.add_task("copies", total=3_000_000_000), 1_500_000_000)
    sys.stdin.readline()
"""
_SPINNER = """
with progress_bars.spinner("exports [2]"), library_output.silence():
    sys.stdin.readline()
"""
_TIME = r"\d+:\d\d:\d\d"


@contextmanager
def _working(block: str, interval: float, stderr: int) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WORK.format(interval=interval, block=block)],
        stdin=subprocess.PIPE,
        stderr=stderr,
        env=child_processes.environment(TERM="xterm", COLUMNS="200"),
        text=True,
    )
    with process:
        yield process
        if process.stdin and not process.stdin.closed:
            process.communicate("\n")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("block", "line"),
    [
        (
            _ITEMS,
            rf"answers \[1\]: 11 of 40, {_TIME} elapsed, about {_TIME} left; "
            rf"warms up: {_TIME} elapsed",
        ),
        (_BYTES, rf"copies: 1.5 GB of 3.0 GB, {_TIME} elapsed"),
        (_SPINNER, rf"exports \[2\]: {_TIME} elapsed"),
    ],
)
def test_pipe_gets_lines_while_work_goes_on(block: str, line: str) -> None:
    with _working(block, 0.01, subprocess.PIPE) as process:
        assert process.stderr is not None
        printed = [process.stderr.readline() for _ in range(3)]

    assert all(re.fullmatch(line, each.strip()) for each in printed), printed


def test_short_work_prints_no_lines() -> None:
    with _working(_SPINNER, 30, subprocess.PIPE) as process:
        _, printed = process.communicate("\n")

    assert printed == ""


def test_terminal_shows_the_bar_alone() -> None:
    ours, theirs = pty.openpty()
    with _working(_BYTES, 0.01, theirs):
        os.close(theirs)
        shown = os.read(ours, 10_000)
        while b"copies" not in shown:
            shown += os.read(ours, 10_000)
    os.close(ours)

    assert "━".encode() in shown
    assert b"elapsed" not in shown


def test_rest_is_estimated_from_what_this_run_did() -> None:
    now = 100.0
    bar = progress_bars._Bar(format_amount=str, get_time=lambda: now)
    task = bar.add_task("rows", total=50)
    now = 110.0
    bar.update(task, completed=30)  # of an earlier run

    assert bar.line() == "rows: 30 of 50, 0:00:10 elapsed"
    now = 130.0
    bar.advance(task, 10)
    assert bar.line() == "rows: 40 of 50, 0:00:30 elapsed, about 0:00:20 left"
    bar.advance(task, 10)
    assert bar.line() == ""
