"""The page with the table of clients and features."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slmflow.reports import markdown

WORKS, REFUSED, FAILED = "works", "refused", "failed"

_MISSING = "-"
_LONGEST_MESSAGE = 300
_FEATURES = (
    *("chat", "stream", "completions", "JSON schema", "tools, auto", "tools, required"),
    *("logprobs", "n", "responses", "responses, tools", "thinking", "embeddings"),
    *("fixed length", "other origin"),
)
_COMMAND = "`make test-clients`"


@dataclass(frozen=True)
class Outcome:
    """What came of one cell; message: of a refusal or a failure."""

    feature: str
    outcome: str
    message: str = ""


@dataclass(frozen=True)
class Table:
    """The outcomes of each client, by its name and version."""

    model: str
    rows: Mapping[str, Sequence[Outcome]]

    @property
    def failures(self) -> list[str]:
        """Client and feature of each cell that neither works nor is refused."""
        return [
            f"{client}, {each.feature}: {each.message}"
            for client, outcomes in self.rows.items()
            for each in outcomes
            if each.outcome == FAILED
        ]

    def markdown(self) -> str:
        """Return the section of the page."""
        tried = {each.feature for outcomes in self.rows.values() for each in outcomes}
        features = sorted(tried, key=_FEATURES.index)
        cells = [[client, *_cells(outcomes, features)] for client, outcomes in self.rows.items()]
        table = markdown.table(["client", *features], cells)
        return "\n\n".join([f"## {self.model}", table, "\n".join(self._refusals())])

    def _refusals(self) -> Iterator[str]:
        """Yield what the server says, once for each feature."""
        seen = set()
        for outcomes in self.rows.values():
            for each in outcomes:
                if each.outcome == REFUSED and each.feature not in seen:
                    seen.add(each.feature)
                    message = textwrap.shorten(each.message.splitlines()[0], _LONGEST_MESSAGE)
                    yield f"- {each.feature}: {markdown.text(message)}"


def page(tables: Sequence[Table]) -> str:
    """Return the page with the tables of all models."""
    introduction = (
        f"Each cell is a program that {_COMMAND} runs against `serve`. *refused*: the server "
        f"answers with a message that names what it does not have. {_MISSING}: the client has no "
        "such feature, or shows nothing of it."
    )
    sections = (table.markdown() for table in tables)
    return "\n\n".join(["# Clients", introduction, *sections]).rstrip() + "\n"


def _cells(outcomes: Sequence[Outcome], features: Sequence[str]) -> list[str]:
    by_feature = {each.feature: each.outcome for each in outcomes}
    return [by_feature.get(feature, _MISSING) for feature in features]
