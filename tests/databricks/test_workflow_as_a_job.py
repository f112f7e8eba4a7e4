"""The whole workflow as a job of a workspace, down to a model in Unity Catalog."""

import json
from pathlib import Path

import pytest

from steps.evaluate.figures import COLUMNS
from tests.databricks.submitting import Checkout, client, run_of
from tests.databricks.test_roads import ROADS
from tests.databricks.workspace import Workspace

NAME = "main.default.slmflow_tiny_phi3"


@pytest.mark.long
@pytest.mark.parametrize("target", ROADS)
def test_the_whole_workflow(checkout: Checkout, space: Workspace, target: str) -> None:
    few = ("-P", "evaluation.limit=12", "-P", f"registry.name={NAME}")
    job = checkout.submit(target, *ROADS[target], *few)

    assert job.wait() == "SUCCESS", job.log.read_text()[-3000:]
    run = run_of(job, space)
    assert run.info.status == "FINISHED"
    path = client(space).download_artifacts(run.info.run_id, "comparison.json")
    table = json.loads(Path(path).read_text())
    assert table["columns"] == list(COLUMNS)
    assert [row[0] for row in table["data"]] == ["transformers", "genai"]
    version = client(space).get_model_version_by_alias(NAME, "candidate")
    assert (space.folder / "files/Models" / NAME.replace(".", "/") / version.version).is_dir()
    assert list((space.driver / "root").iterdir()) == []
