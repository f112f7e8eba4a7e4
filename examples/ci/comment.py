"""Print the comparison of a run as Markdown, for a pull request or a summary.

python examples/ci/comment.py RUN_NAME
"""

import sys

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

COMPARISON = "comparison.md"
ERROR = "slmflow.error"


def find_run(name: str) -> Run | None:
    """Return the newest run of the workflow with this name, in any experiment."""
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    query = f"attributes.run_name = '{name}' and tags.`slmflow.step` = 'main'"
    runs = client.search_runs(
        experiments, query, max_results=1, order_by=["attributes.start_time DESC"]
    )
    return runs[0] if runs else None


def comment(run: Run) -> str:
    """Return how the run ended, why if it failed, and its comparison if it has one."""
    parts = [f"**{run.info.run_name}**: {run.info.status.lower()} (run `{run.info.run_id}`)"]
    if error := run.data.tags.get(ERROR):
        parts.append("> " + error.replace("\n", "\n> "))
    try:
        parts.append(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{COMPARISON}"))
    except (MlflowException, OSError):
        parts.append("The run ended before the comparison.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    run = find_run(sys.argv[1])
    print(
        comment(run) if run else f"There is no run {sys.argv[1]}: it ended before its first step."
    )
