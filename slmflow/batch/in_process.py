"""Have a model in this process answer, a partition after the other."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from slmflow.batch import model_worker
from slmflow.batch.requests import Ask, Requests
from slmflow.console import messages


@contextmanager
def asking(model: Path) -> Iterator[Ask]:
    """Load the MLflow model in a folder, and yield what asks it."""
    with messages.working("loading the model"), messages.quiet():
        loaded = model_worker.load(str(model))

    def ask(partitions: Iterable[Requests]) -> Iterator[tuple[int, list[str]]]:
        for each in partitions:
            yield each.number, loaded.predict(pd.DataFrame({model_worker.REQUEST: each.texts}))

    yield ask
