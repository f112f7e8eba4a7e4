"""Answers that an earlier run measured, for a store that does not have them.

Such is the store of another machine, which takes the answers and measures its own timings.
"""

from collections.abc import Collection
from functools import cached_property

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from slmflow.console import messages
from slmflow.measurement.artifact import load_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement
from slmflow.pipeline import runs
from slmflow.pipeline.results import Measurements


class EarlierAnswers:
    """The answers of finished runs that measured the same rows, by model; they are read if asked.

    answers_keys: of `keys.answers_key`, all for the same rows.
    """

    def __init__(self, answers_keys: Collection[str] = (), experiment_id: str = "") -> None:
        """Remember where to look."""
        self._keys, self._experiment_id = answers_keys, experiment_id

    def of(self, model: MeasuredModel, row_count: int) -> Measurement | None:
        """Return the newest measurement of a model with this number of rows, or None."""
        measured = self._by_key.get(model.key) if model.key else None
        return measured if measured and len(measured.answers) == row_count else None

    @cached_property
    def _by_key(self) -> dict[str, Measurement]:
        by_key: dict[str, Measurement] = {}
        for answers_key in self._keys:
            for measured in self._read(answers_key):
                by_key.setdefault(measured.model.key, measured)
        return by_key

    def _read(self, answers_key: str) -> tuple[Measurement, ...]:
        """Return the measurements of the newest run with this key whose artifact is readable."""
        found = MlflowClient().search_runs(
            [self._experiment_id],
            f"tags.`{runs.ANSWERS_KEY}` = '{answers_key}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
        for run in found:
            try:
                measured = load_measurements(runs.load_result(Measurements, run.info.run_id))
            except (MlflowException, OSError, TypeError, ValueError, KeyError):
                continue
            messages.info(f"run {run.info.run_id} has the answers to the same rows")
            return measured
        return ()
