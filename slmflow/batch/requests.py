"""Turn the messages of rows into model requests, and model replies into the rows' answers."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from slmflow.batch.input_rows import RowMessages
from slmflow.config.schema.batch import BatchColumns
from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import ChatInterface


@dataclass(frozen=True)
class RowAnswer:
    """The answer of a row or its error; token counts are None where the model reports none."""

    answer: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None

    def to_columns(self, columns: BatchColumns) -> dict[str, Any]:
        """Return the values by output column."""
        values = (self.answer, self.prompt_tokens, self.completion_tokens, self.error)
        return dict(zip(columns.added, values, strict=True))


@dataclass(frozen=True)
class Partition:
    """Rows that are answered together, in order; partitions are numbered from 0."""

    number: int
    rows: list[RowMessages]


NumberedTexts = tuple[int, list[str]]
"""The number of a partition, and its requests or results, as `RequestPredictor` has them."""

Predict = Callable[[Iterable[NumberedTexts]], Iterator[NumberedTexts]]
"""Run the model on the requests of partitions; yield the results of each, in any order."""


def answer_partitions(
    partitions: Iterable[Partition], interface: ChatInterface, predict: Predict
) -> Iterator[tuple[int, list[RowAnswer]]]:
    """Yield each partition's number with the answers of its rows, in row order.

    Partitions are consumed lazily, as `predict` asks for them.
    """
    pending: dict[int, list[str | RowAnswer]] = {}

    def requests() -> Iterator[NumberedTexts]:
        for partition in partitions:
            rows = [_request_or_error(row, interface) for row in partition.rows]
            pending[partition.number] = rows
            yield partition.number, [row for row in rows if isinstance(row, str)]

    for number, results in predict(requests()):
        remaining = iter(results)
        yield (
            number,
            [
                row if isinstance(row, RowAnswer) else _parse_result(next(remaining), interface)
                for row in pending.pop(number)
            ],
        )


def _request_or_error(row: RowMessages, interface: ChatInterface) -> str | RowAnswer:
    if row.error is not None:
        return RowAnswer(error=row.error)
    if interface.input_field != "prompt":
        return json.dumps({interface.input_field: row.messages})
    if len(row.messages) > 1:
        return RowAnswer(
            error="the model takes a prompt, but the row is a conversation of "
            f"{len(row.messages)} messages"
        )
    return json.dumps({interface.input_field: row.messages[0]["content"]})


def _parse_result(text: str, interface: ChatInterface) -> RowAnswer:
    result = json.loads(text)
    if "error" in result:
        return RowAnswer(error=result["error"])
    try:
        reply = interface.parse_completion(result["reply"])
    except UserError as error:
        return RowAnswer(error=str(error))
    if not isinstance(reply.text, str):
        return RowAnswer(error=f"the model's answer must be text, not {reply.text!r:.200}")
    return RowAnswer(reply.text, reply.prompt_tokens, reply.completion_tokens)
