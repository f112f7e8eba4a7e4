"""Run the model in this process, one partition after another."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from slmflow.batch import model_worker
from slmflow.batch.requests import NumberedTexts, Predict
from slmflow.console import library_output, progress_bars
from slmflow.flavors.unknown_tokens import install_check


@contextmanager
def open_predictor(model: Path) -> Iterator[Predict]:
    """Load the MLflow model in a folder and yield a function that runs it."""
    with progress_bars.spinner("loading the model"), library_output.silence():
        predictor = model_worker.load_predictor(str(model))
        install_check(predictor.model)

    def predict(partitions: Iterable[NumberedTexts]) -> Iterator[NumberedTexts]:
        for number, requests in partitions:
            yield number, predictor.predict(pd.DataFrame({model_worker.REQUEST_COLUMN: requests}))

    yield predict
