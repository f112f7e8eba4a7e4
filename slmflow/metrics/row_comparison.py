"""Row by row: which rows a model answers worse than the reference."""

from dataclasses import dataclass
from typing import Any, Self

import pandas as pd

from slmflow.metrics import answer_table
from slmflow.runtime.readings import common_length


@dataclass(frozen=True)
class Regression:
    """A row that the reference answers better.

    expected: all accepted answers, separated by " / "; first_diverging_token: the position, from 1,
    of the first different token; None if the tokens are equal, as those of different texts can be.
    choices: the letters of the most likely choices of reference and model, if the row has choices
    and both models can score texts.
    """

    question: str
    expected: str
    reference: str
    answer: str
    first_diverging_token: int | None
    choices: tuple[str, str] | None = None

    @property
    def shared_length(self) -> int:
        """The length of the common prefix of both answers, in characters."""
        return common_length(self.reference, self.answer)


@dataclass(frozen=True)
class RowComparison:
    """The number of rows that a model answers better, or with another text but the same scores.

    regressions: the rows that it answers worse, the worst first.
    """

    rows: int
    better: int
    reworded: int
    regressions: tuple[Regression, ...]

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Self:
        """Return the comparison in a table with a reference, whose worst rows are first."""
        expected = map(" / ".join, answer_table.accepted_answers(table))
        rows = table.assign(expected=list(expected)).to_dict("records")
        drops = list(answer_table.score_drops(table).itertuples(index=False, name=None))
        equal = (0,) * len(drops[0])
        return cls(
            rows=len(rows),
            better=sum(drop < equal for drop in drops),
            reworded=sum(
                drop == equal and row["prediction"] != row["reference"]
                for row, drop in zip(rows, drops, strict=True)
            ),
            regressions=tuple(
                _regression(row) for row, drop in zip(rows, drops, strict=True) if drop > equal
            ),
        )

    @property
    def summary(self) -> str:
        """A sentence with the number of rows of each kind."""
        worse = len(self.regressions)
        same = self.rows - worse - self.better - self.reworded
        return (
            f"Of {self.rows} rows, {worse} are answered worse, {self.better} better, "
            f"{self.reworded} differently with the same scores, and {same} identically."
        )


def _regression(row: dict[str, Any]) -> Regression:
    token = row["first_diverging_token"]
    theirs, ours = row.get("reference_choice"), row.get("choice")
    return Regression(
        question=row["question"],
        expected=row["expected"],
        reference=row["reference"],
        answer=row["prediction"],
        first_diverging_token=None if pd.isna(token) else int(token),
        choices=None if pd.isna(theirs) or pd.isna(ours) else (str(theirs), str(ours)),
    )
