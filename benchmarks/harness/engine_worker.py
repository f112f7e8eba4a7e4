"""One engine in a process of its own: `python -m benchmarks.harness.engine_worker ENGINE PATH CONTEXT`.

ENGINE is one of `benchmarks.harness.engines`, PATH what it reads, CONTEXT the most tokens of a prompt and
its answer together. It uses all cores. Standard output is one JSON object a line: first
{"description": "..."} when the model is loaded, then a `Reply` for each line of standard input:
{"read": [token ids], "room": 65} begins an answer, {"steps": 16} goes on with it. Whatever
libraries print goes to standard error.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.engines import LOADERS, Engine
from slmflow.system.child_processes import take_stdout
from slmflow.system.memory import peak_rss_bytes

# How long to wait for spinning threads and how often to look, and the share of a core that is some.
SETTLE_S, SETTLE_STEP_S, SPINNING = 1.0, 0.01, 0.1


@dataclass(frozen=True)
class Reply:
    """One timed part of an answer.

    seconds: from the prompt to the first token, or for the steps; idle_s, idle_cpu_s: wall and CPU
    seconds since it settled after the reply before; peak_rss_bytes: the most memory this process
    has held so far, loading included, None where the system does not tell.
    """

    seconds: float
    idle_s: float
    idle_cpu_s: float
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Moment:
    """Wall and CPU clock, in seconds."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())


def reply(engine: Engine, question: Mapping[str, Any], idle_since: Moment) -> Reply:
    """Time one part of an answer."""
    asked = Moment.now()
    if "read" in question:
        engine.read(question["read"], question["room"])
    for _ in range(question.get("steps", 0)):
        engine.step()
    return Reply(
        seconds=time.perf_counter() - asked.wall,
        idle_s=asked.wall - idle_since.wall,
        idle_cpu_s=asked.cpu - idle_since.cpu,
        peak_rss_bytes=peak_rss_bytes(),
    )


def settle() -> Moment:
    """Return once the engine's threads no longer spin, but after `SETTLE_S` at the latest.

    ONNX Runtime's do for some 35 ms after a run, which would slow down whoever is next.
    """
    began = before = Moment.now()
    while before.wall - began.wall < SETTLE_S:
        time.sleep(SETTLE_STEP_S)
        now = Moment.now()
        if now.cpu - before.cpu < SPINNING * (now.wall - before.wall):
            return now
        before = now
    return before


def _main() -> None:
    name, path, context = sys.argv[1:]
    channel = take_stdout()
    engine = LOADERS[name](Path(path), int(context), os.cpu_count() or 1)
    print(json.dumps({"description": engine.description}), file=channel, flush=True)
    idle_since = settle()
    for line in sys.stdin:
        answer = reply(engine, json.loads(line), idle_since)
        idle_since = settle()
        print(json.dumps(dataclasses.asdict(answer)), file=channel, flush=True)


if __name__ == "__main__":
    _main()
