"""From what a row asks to the request that is sent, and from the reply to the row's answer."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from slmflow.batch.input_rows import Question
from slmflow.config.schema.batch import BatchColumns
from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import Interface


@dataclass(frozen=True)
class Answered:
    """A row's answer, or why it has none; counts are None where the model does not tell them."""

    answer: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None

    def named(self, columns: BatchColumns) -> dict[str, Any]:
        """Return the values under the names of the output's columns."""
        values = (self.answer, self.prompt_tokens, self.completion_tokens, self.error)
        return dict(zip(columns.added, values, strict=True))


@dataclass(frozen=True)
class Partition:
    """Rows that are answered together: its number from 0, and what they ask, in order."""

    number: int
    questions: list[Question]


@dataclass(frozen=True)
class Requests:
    """The requests of a partition: JSON objects of one row that the model takes."""

    number: int
    texts: list[str]


Ask = Callable[[Iterable[Requests]], Iterator[tuple[int, list[str]]]]
"""Has partitions of requests answered; yields the number of each, in any order, with what came
back, as `Answerer.predict` gives it. Empty ones are not handed over.
"""


def answer(
    partitions: Iterable[Partition], interface: Interface, ask: Ask
) -> Iterator[tuple[int, list[Answered]]]:
    """Yield the number of each partition with the answers to its rows, in their order.

    Partitions are taken one by one, as `ask` wants them.
    """
    waiting: dict[int, list[str | Answered]] = {}

    def requests() -> Iterator[Requests]:
        for partition in partitions:
            each = [_request(question, interface) for question in partition.questions]
            waiting[partition.number] = each
            yield Requests(partition.number, [text for text in each if isinstance(text, str)])

    for number, came in ask(requests()):
        replies = iter(came)
        yield (
            number,
            [
                each if isinstance(each, Answered) else _answered(next(replies), interface)
                for each in waiting.pop(number)
            ],
        )


def _request(question: Question, interface: Interface) -> str | Answered:
    if question.problem is not None:
        return Answered(error=question.problem)
    if interface.conversation != "prompt":
        return json.dumps({interface.conversation: question.messages})
    if len(question.messages) > 1:
        return Answered(
            error=f"the model takes a prompt, but the row is a conversation of "
            f"{len(question.messages)} messages"
        )
    return json.dumps({interface.conversation: question.messages[0]["content"]})


def _answered(told: str, interface: Interface) -> Answered:
    said = json.loads(told)
    if "error" in said:
        return Answered(error=said["error"])
    try:
        reply = interface.reply(said["reply"])
    except UserError as error:
        return Answered(error=str(error))
    if not isinstance(reply.text, str):
        return Answered(error=f"its answer is not text but {reply.text!r:.200}")
    return Answered(reply.text, reply.prompt_tokens, reply.completion_tokens)
