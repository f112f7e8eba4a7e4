"""Have a model in this process answer, a partition after the other."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from steps.batch import answerer
from steps.batch.answers import Ask, Requests
from steps.common import console


@contextmanager
def asking(model: Path) -> Iterator[Ask]:
    """Load the MLflow model in a folder, and yield what asks it."""
    with console.working("loading the model"), console.quiet():
        loaded = answerer.load(str(model))

    def ask(partitions: Iterable[Requests]) -> Iterator[tuple[int, list[str]]]:
        for each in partitions:
            yield each.number, loaded.predict(pd.DataFrame({answerer.REQUEST: each.texts}))

    yield ask
