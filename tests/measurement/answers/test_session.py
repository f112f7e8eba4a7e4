"""Rows answered by the session of a logged model."""

from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.measurement.answers.session import SessionAnswerer


def test_only_answers_that_are_not_timed_use_the_cache(pyfunc: PyFuncModel) -> None:
    cache = pyfunc.unwrap_python_model()._engine.cache
    by_default = cache.max_bytes
    question = "What is the capital of Japan, of Peru, of Kenya and of Norway? " * 8
    rows = {n: Row([{"role": "user", "content": f"{question} {n}"}], "Tokyo") for n in range(2)}
    answerer = SessionAnswerer(pyfunc, None)

    timed = [answerer.time(number, row)[0].text for number, row in rows.items()]
    assert (cache.max_bytes, cache.kept_bytes) == (0, 0)

    answers = dict(answerer.answer(rows))
    assert [answers[number].text for number in rows] == timed
    assert cache.max_bytes > 0
    cache.max_bytes = by_default
