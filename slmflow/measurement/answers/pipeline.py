"""Answer rows with a transformers pipeline, in batches."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import Completion
from slmflow.measurement.answers.pipeline_generation import PipelineGenerator
from slmflow.measurement.answers.single import SingleAnswerer, rejected_answer, to_answer
from slmflow.measurement.records import Answer


class PipelineAnswerer(SingleAnswerer):
    """Answers rows with a transformers pipeline: greedy ones in batches.

    The texts are decoded from the tokens that the pipeline generated, since MLflow's own decoding
    changes spaces.
    """

    def __init__(self, model: PyFuncModel, seed: int | None) -> None:
        """Answer with a loaded model of the transformers flavor."""
        super().__init__(model, seed)
        self._generator = PipelineGenerator(model)

    def answer(self, rows: Mapping[int, Row]) -> Iterator[tuple[int, Answer]]:
        """Yield the number of each row with its answer, in any order."""
        prompts = {}
        for number, row in rows.items():
            try:
                prompts[number] = self._generator.encode(row.messages)
            except MlflowException as error:
                yield number, rejected_answer(error)
        if prompts and not self._generator.is_greedy:
            yield from super().answer({number: rows[number] for number in prompts})
            return
        for number, generated in self._generator.generate(prompts) if prompts else ():
            completion = self._generator.completion(prompts[number], generated)
            yield number, to_answer(completion)

    def _timed_request(self, row: Row) -> tuple[Completion, float, float | None]:
        started = time.perf_counter()
        completion, latency_s = self._request(row)
        return completion, latency_s, self._generator.last.first_token_at - started

    def _request(self, row: Row, **options: Any) -> tuple[Completion, float]:
        _, latency_s = super()._request(row, **options)
        recorded = self._generator.last
        completion = self._generator.completion(recorded.prompt_ids, recorded.generated_ids)
        return completion, latency_s
