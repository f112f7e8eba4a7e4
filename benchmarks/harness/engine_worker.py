"""Child process of one engine: `python -m benchmarks.harness.engine_worker ENGINE PATH CONTEXT`.

ENGINE is a key of `LOADERS` in `benchmarks.harness.engines`, PATH the model it loads, CONTEXT the
longest prompt plus new tokens. The engine uses all cores. Standard output has one JSON object per
line: {"description": "..."} once the model is loaded, then a `TimedReply` for each line of standard
input. {"prefill": [token ids], "new_tokens": 65} starts a text, {"decode": 16} continues it.
Whatever libraries print goes to standard error.
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
from slmflow.system.child_processes import claim_stdout
from slmflow.system.memory import peak_rss_bytes

# Longest wait for spinning threads, interval of the checks, and share of a core that is spinning.
SETTLE_S, SETTLE_STEP_S, SPINNING = 1.0, 0.01, 0.1


@dataclass(frozen=True)
class TimedReply:
    """Timing of one request.

    seconds: time of the prefill or of the decoded tokens; idle_s, idle_cpu_s: wall and CPU seconds
    since the engine settled after the last reply; peak_rss_bytes: peak resident memory of this
    process so far, loading included, None if the system does not report it.
    """

    seconds: float
    idle_s: float
    idle_cpu_s: float
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Clocks:
    """Wall and CPU clock, in seconds."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Clocks":
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())


def time_request(engine: Engine, request: Mapping[str, Any], idle_since: Clocks) -> TimedReply:
    """Run one request and time it."""
    start = Clocks.now()
    if "prefill" in request:
        engine.prefill(request["prefill"], request["new_tokens"])
    for _ in range(request.get("decode", 0)):
        engine.decode()
    return TimedReply(
        seconds=time.perf_counter() - start.wall,
        idle_s=start.wall - idle_since.wall,
        idle_cpu_s=start.cpu - idle_since.cpu,
        peak_rss_bytes=peak_rss_bytes(),
    )


def settle() -> Clocks:
    """Wait until the engine's threads no longer spin, but at most `SETTLE_S`.

    Those of ONNX Runtime spin for some 35 ms after a run, which would slow down the next engine.
    """
    start = before = Clocks.now()
    while before.wall - start.wall < SETTLE_S:
        time.sleep(SETTLE_STEP_S)
        now = Clocks.now()
        if now.cpu - before.cpu < SPINNING * (now.wall - before.wall):
            return now
        before = now
    return before


def _main() -> None:
    name, path, context = sys.argv[1:]
    output = claim_stdout()
    engine = LOADERS[name](Path(path), int(context), os.cpu_count() or 1)
    print(json.dumps({"description": engine.description}), file=output, flush=True)
    idle_since = settle()
    for line in sys.stdin:
        reply = time_request(engine, json.loads(line), idle_since)
        idle_since = settle()
        print(json.dumps(dataclasses.asdict(reply)), file=output, flush=True)


if __name__ == "__main__":
    _main()
