"""The whole workflow as a job, up to a registered model in Unity Catalog."""

import json
from pathlib import Path

import pytest

from slmflow.metrics.model_metrics import COLUMNS
from tests.databricks.submitting import Checkout, find_run, tracking_client
from tests.databricks.test_submission import SUBMISSION_ARGUMENTS
from tests.databricks.workspace import Workspace

NAME = "main.default.slmflow_tiny_phi3"


def _with_store(checkout: Checkout, spec: str, store: Path) -> None:
    """Make the clusters of a spec share a store."""
    file = checkout.folder / "databricks" / spec
    cluster = json.loads(file.read_text())
    cluster.get("new_cluster", cluster)["spark_env_vars"]["SLMFLOW_HOME"] = str(store)
    file.write_text(json.dumps(cluster))


@pytest.mark.long
def test_second_cluster_reuses_the_results_of_the_first(
    checkout: Checkout, workspace: Workspace
) -> None:
    for spec in ("cluster.json", "spark_cluster.json"):
        _with_store(checkout, spec, workspace.folder / "volume")
    few = ("-P", "evaluation.limit=12", "-P", f"registry.name={NAME}")
    runs = []
    for target, local in SUBMISSION_ARGUMENTS.items():
        job = checkout.submit(target, *local, *few)
        assert job.wait() == "SUCCESS", job.log[-3000:]
        assert list((job.driver.root / "home").iterdir()) == []
        runs.append(find_run(job, workspace))

    for run in runs:
        assert run.info.status == "FINISHED"
        path = tracking_client(workspace).download_artifacts(run.info.run_id, "comparison.json")
        table = json.loads(Path(path).read_text())
        assert table["columns"] == list(COLUMNS)
        assert [row[0] for row in table["data"]] == ["transformers", "genai"]
    version = tracking_client(workspace).get_model_version_by_alias(NAME, "candidate")
    files = workspace.folder / "files" / "Models" / NAME.replace(".", "/") / version.version
    assert (files / "MLmodel").is_file()
    assert "slmflow.reused_from" not in runs[0].data.tags
    reused = [part.split(":")[0] for part in runs[1].data.tags["slmflow.reused_from"].split(", ")]
    assert reused[:4] == ["fetch", "convert", "log_transformers", "log_genai"]
