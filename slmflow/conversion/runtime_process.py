"""A `Runtime` in a process of its own, whose memory is given back with its end.

`ask` starts it: `python -m slmflow.conversion.runtime_process JOB`, JOB being a file of the arguments.
The child writes each result to an .npy file and the file's name to standard output.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmflow.conversion.graph_runtime import Runtime
from slmflow.errors import UserError
from slmflow.system import child_processes


@dataclass(frozen=True)
class Call:
    """A method of `Runtime` and its arguments: what JSON can hold."""

    method: str
    arguments: list[Any]


def ask(folder: Path, graph: str, calls: Sequence[Call]) -> Iterator[NDArray[Any]]:
    """Load a graph of a converted folder and yield the result of each call as soon as it is there.

    Raises UserError where the runtime cannot load or run the graph.
    """
    asked = [dataclasses.asdict(call) for call in calls]
    with tempfile.TemporaryDirectory() as scratch:
        job, errors = Path(scratch) / "job.json", Path(scratch) / "errors.txt"
        job.write_text(json.dumps({"folder": str(folder), "graph": graph, "calls": asked}))
        with errors.open("wb") as stderr, _start(job, stderr) as process:
            try:
                done = 0
                for line in process.stdout:
                    yield np.load(Path(scratch) / line.strip(), allow_pickle=False)
                    done += 1
            finally:
                process.kill()
        if done < len(calls):
            reason = child_processes.why_ended(
                process.returncode, errors.read_text(errors="replace")
            )
            raise UserError(_failure(graph, reason))


def _start(job: Path, stderr: Any) -> Any:
    command = [sys.executable, "-m", "slmflow.conversion.runtime_process", str(job)]
    environment = child_processes.environment()
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def _failure(graph: str, reason: str) -> str:
    return (
        f"the GenAI runtime cannot run the converted model ({graph}): {reason[:300]}. See that "
        "there is enough free memory for it; else try the other exporter or another target"
    )


def _main() -> None:
    child_processes.end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text())
    runtime = Runtime(Path(job["folder"]), job["graph"])
    for number, call in enumerate(job["calls"]):
        name = f"{number}.npy"
        np.save(
            Path(sys.argv[1]).parent / name,
            getattr(runtime, call["method"])(*call["arguments"]),
            allow_pickle=False,
        )
        print(name, flush=True)


if __name__ == "__main__":
    _main()
