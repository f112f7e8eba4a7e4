"""Memory of a command and its child processes."""

import json
import os
import subprocess
import sys

from benchmarks.harness import process_tree
from slmflow.paths import PROJECT

# Holds 80 MB for half a second, once in the process and once in a child process.
_HOLD = """
import subprocess, sys, time
end = time.monotonic() + 0.5
held = bytearray(b"x") * 80_000_000
if len(sys.argv) < 2:
    subprocess.run([sys.executable, "-c", sys.orig_argv[2], "child"], check=True)
while time.monotonic() < end:
    pass
sys.exit(3 if len(sys.argv) < 2 else 0)
"""

# Runs in a small process, because the kernel counts a parent's memory as its child's.
_MEASURE = """
import dataclasses, json, os, sys
from benchmarks.harness import process_tree
usage = process_tree.run([sys.executable, "-c", sys.argv[1]], os.environ)
print(json.dumps(dataclasses.asdict(usage)))
"""


def test_usage_counts_largest_and_all_processes() -> None:
    command = [sys.executable, "-c", _MEASURE, _HOLD]
    usage = json.loads(subprocess.check_output(command, cwd=PROJECT))

    assert usage["status"] == 3
    assert usage["seconds"] >= 0.5
    assert 80e6 < usage["peak_process_bytes"] < 150e6
    assert 160e6 < usage["peak_tree_bytes"] < 300e6


def test_rss_includes_child_processes() -> None:
    hold = 'held = bytearray(b"x") * 80_000_000; print(flush=True); input()'
    command = [sys.executable, "-c", hold]
    before = process_tree.rss_bytes(os.getpid())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert process_tree.rss_bytes(os.getpid()) - before > 80e6
        child.kill()
