"""Row by row: where a model answers worse than the reference, and where the two texts part."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Self

import pandas as pd

from slmflow.metrics import answer_table as tables


@dataclass(frozen=True)
class Regression:
    """A row that the reference answers better.

    first_diverging_token: the position, from 1, of the first token that differs; None where none
    does, since texts may differ in what tokens do not tell. choices: the letters of the choices
    that the reference and this one find most likely, where the row has choices and both tell.
    """

    question: str
    expected: str
    reference: str
    answer: str
    first_diverging_token: int | None
    choices: tuple[str, str] | None = None

    @property
    def same(self) -> int:
        """How many characters both texts begin with."""
        pairs = zip(self.reference, self.answer, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@dataclass(frozen=True)
class RowComparison:
    """How many rows a model answers worse than the reference, better, or otherwise but level.

    `regressions` are the worse ones, the worst first.
    """

    rows: int
    better: int
    otherwise: int
    regressions: tuple[Regression, ...]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Self:
        """Return what a table beside a reference tells; its rows are the worst first."""
        rows = table.to_dict("records")
        drops = list(tables.score_drops(table).itertuples(index=False, name=None))
        level = (0,) * len(drops[0])
        other = [row["prediction"] != row["reference"] for row in rows]
        return cls(
            rows=len(rows),
            better=sum(drop < level for drop in drops),
            otherwise=sum(
                drop == level and is_other for drop, is_other in zip(drops, other, strict=True)
            ),
            regressions=tuple(
                _regression(row) for row, drop in zip(rows, drops, strict=True) if drop > level
            ),
        )

    @property
    def counts(self) -> str:
        """The rows of each kind, in words."""
        worse = len(self.regressions)
        same = self.rows - worse - self.better - self.otherwise
        return (
            f"Of {self.rows} rows {worse} are answered worse, {self.better} better, "
            f"{self.otherwise} in other words but no worse or better, {same} in the same words."
        )


def _regression(row: dict[str, Any]) -> Regression:
    token = row["first_diverging_token"]
    theirs, ours = row.get("reference_choice"), row.get("choice")
    return Regression(
        question=row["question"],
        expected=row["answer"],
        reference=row["reference"],
        answer=row["prediction"],
        first_diverging_token=None if pd.isna(token) else int(token),
        choices=None if pd.isna(theirs) or pd.isna(ours) else (str(theirs), str(ours)),
    )
