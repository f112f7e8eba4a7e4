"""The count of hashed bytes: its hook in other processes, and its page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.store_hashing import HOOK, Counted, Workflow, markdown

SCRIPT = """
import hashlib, sys
from pathlib import Path
with open(sys.argv[1], "rb") as file:
    assert hashlib.file_digest(file, "sha256").hexdigest() == sys.argv[2]
digest = hashlib.sha256()
digest.update(Path(sys.argv[1]).read_bytes())
assert digest.hexdigest() == sys.argv[2]
hashlib.sha256(b"small").hexdigest()
"""
EMPTY_MEGABYTE = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58"


def test_hook_counts_files_and_chunks(tmp_path: Path) -> None:
    file, log = tmp_path / "weights", tmp_path / "log"
    file.write_bytes(bytes(1 << 20))

    subprocess.run(
        [sys.executable, "-c", SCRIPT, file, EMPTY_MEGABYTE],
        env=os.environ | {"PYTHONPATH": str(HOOK), "COUNT_HASHES": str(log)},
        check=True,
    )

    counted = [line.split("\t") for line in log.read_text().splitlines()]
    assert [(count, name) for count, _, name in counted] == [
        (str(1 << 20), str(file)),
        (str(1 << 20), "-"),
    ]


def test_page_gives_multiples_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(2000))
    workflow = Workflow(tmp_path, tmp_path, ())

    page = markdown(workflow, [Counted("main", 5000, {})])

    assert "| main | 0.0 | 2.50 |" in page


@pytest.mark.long
def test_workflow_is_counted(tmp_path: Path) -> None:
    workflow = Workflow(
        HOOK.parents[2], HOOK.parents[2] / "bundled" / "tiny_phi3", ("evaluation.limit=2",)
    )

    main, again, sweep = workflow.count()

    # The user's folder for the key, its copy, and the graph; then nothing.
    assert main.total_bytes < 3.2 * workflow.weights_bytes
    assert again.total_bytes < 0.1 * workflow.weights_bytes
    assert sweep.total_bytes < 3.2 * workflow.weights_bytes
