"""A `Runtime` in a child process, whose memory is free again when it ends.

`run_calls` starts `python -m slmflow.conversion.proof.runtime_process JOB`, where JOB is a JSON
file of folder, graph and calls. The child writes each result to an .npy file and prints its name.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmflow.conversion.proof.graph_runtime import Runtime
from slmflow.errors import UserError
from slmflow.system import child_processes


@dataclass(frozen=True)
class Call:
    """A method of `Runtime` and its arguments, all of them JSON values."""

    method: str
    arguments: list[Any]


def run_calls(
    folder: Path, graph: str, calls: Sequence[Call], adapter: str | None = None
) -> Generator[NDArray[Any], None, None]:
    """Load a graph of a converted folder; yield the result of each call as soon as it is done.

    adapter: name of the one in the folder that all calls use.

    Raises UserError if the runtime cannot load or run the graph.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job, errors = Path(scratch) / "job.json", Path(scratch) / "errors.txt"
        fields = {
            "folder": str(folder),
            "graph": graph,
            "calls": list(map(dataclasses.asdict, calls)),
            "adapter": adapter,
        }
        job.write_text(json.dumps(fields))
        with errors.open("wb") as stderr, _start(job, stderr) as process:
            try:
                done = 0
                for line in process.stdout:
                    yield np.load(Path(scratch) / line.strip(), allow_pickle=False)
                    done += 1
            finally:
                process.kill()
        if done < len(calls):
            reason = child_processes.describe_exit(
                process.returncode, errors.read_text(errors="replace")
            )
            raise UserError(
                f"the GenAI runtime cannot run the converted model ({graph}): {reason[:300]}. "
                "Check that there is enough free memory for it, or try the other exporter or "
                "another target"
            )


def _start(job: Path, stderr: Any) -> Any:
    command = [sys.executable, "-m", "slmflow.conversion.proof.runtime_process", str(job)]
    environment = child_processes.environment()
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def _main() -> None:
    child_processes.terminate_with_parent()
    job_file = Path(sys.argv[1])
    job = json.loads(job_file.read_text())
    runtime = Runtime(Path(job["folder"]), job["graph"], job["adapter"])
    for number, call in enumerate(job["calls"]):
        name = f"{number}.npy"
        result = getattr(runtime, call["method"])(*call["arguments"])
        np.save(job_file.parent / name, result, allow_pickle=False)
        print(name, flush=True)


if __name__ == "__main__":
    _main()
