"""Memory of a command and of the processes it starts."""

import json
import os
import subprocess
import sys

from benchmarks.harness import process_tree
from slmflow.paths import PROJECT

# Holds 80 MB for half a second, once in itself and once in a child.
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

# In a process as small as the benchmark's: the kernel counts a child's parent too.
_MEASURE = """
import dataclasses, json, os, sys
from benchmarks import process_tree
usage = process_tree.run([sys.executable, "-c", sys.argv[1]], os.environ)
print(json.dumps(dataclasses.asdict(usage)))
"""


def test_all_processes_count_and_so_does_the_largest() -> None:
    line = [sys.executable, "-c", _MEASURE, _HOLD]
    usage = json.loads(subprocess.check_output(line, cwd=PROJECT))

    assert usage["status"] == 3
    assert usage["seconds"] >= 0.5
    assert 80e6 < usage["peak_process_bytes"] < 150e6
    assert 160e6 < usage["peak_tree_bytes"] < 300e6


def test_memory_now_is_that_of_all_processes() -> None:
    hold = 'held = bytearray(b"x") * 80_000_000; print(flush=True); input()'
    line = [sys.executable, "-c", hold]
    before = process_tree.rss_bytes(os.getpid())
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert process_tree.rss_bytes(os.getpid()) - before > 80e6
        child.kill()
