"""Runs below a sweep's that its end leaves behind: they must not stay RUNNING."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.entities import Run

from slmflow.pipeline import stale_runs


@contextmanager
def ended(run: Run) -> Iterator[None]:
    """Leave no run below this one, whatever happens."""
    try:
        yield
    finally:
        _end_below(run)


def _end_below(sweep: Run) -> None:
    """Mark what still runs below a run, at any depth, as KILLED."""
    for run in stale_runs.running(sweep.info.experiment_id):
        above = [each.info.run_id for each in stale_runs.lineage(run)][1:]
        if sweep.info.run_id in above:
            stale_runs.end(run)
