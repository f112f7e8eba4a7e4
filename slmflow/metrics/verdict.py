"""The verdict: is the converted model good enough to serve in place of the reference?

This is a non-inferiority test. The converted model is good enough if the worse end of the 95 %
confidence interval of each criterion is within the margin, and not good enough if a whole interval
is beyond it. Otherwise the rows are too few to tell. A p-value cannot decide this: it is high
because two models are alike, or because the rows are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from slmflow.config.target_advice import Suggestion
from slmflow.metrics import uncertainty
from slmflow.metrics.uncertainty import Difference

GOOD_ENOUGH = "good enough"
NOT_GOOD_ENOUGH = "not good enough"
TOO_FEW_ROWS = "too few rows to tell"


@dataclass(frozen=True)
class Criterion:
    """A metric that the verdict rests on: how the converted model differs from the reference in it.

    is_ratio: whether the difference is a ratio, of a metric for which lower is better; else it is
    one of shares from 0 to 1, of a metric for which higher is better.
    """

    difference: Difference
    is_ratio: bool = False

    def is_within(self, margin: float) -> bool:
        """Return whether the worse end of the interval is within the margin."""
        if self.is_ratio:
            return self.difference.high <= 1 + margin
        return self.difference.low >= -margin

    def is_beyond(self, margin: float) -> bool:
        """Return whether the whole interval is beyond the margin."""
        if self.is_ratio:
            return self.difference.low > 1 + margin
        return self.difference.high < -margin

    def rows_to_tell(self, n: int, margin: float) -> int | None:
        """Return about how many rows would tell; None if very many. The difference is of `n`."""
        bound = 1 + margin if self.is_ratio else -margin
        return uncertainty.rows_to_tell(n, self.difference, bound, is_share=not self.is_ratio)


@dataclass(frozen=True)
class Verdict:
    """Whether the converted model is good enough to serve.

    outcome: `GOOD_ENOUGH`, `NOT_GOOD_ENOUGH` or `TOO_FEW_ROWS`; metrics: the criteria that decided:
    all of them, those beyond the margin, or those that are neither within nor beyond it;
    rows_needed: about how many rows would tell, None if very many, or if the rows tell;
    suggestions: what to try in place of a model that is not good enough.
    """

    outcome: str
    margin: float
    metrics: tuple[str, ...]
    rows_needed: int | None = None
    suggestions: tuple[Suggestion, ...] = ()

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the verdict in a JSON object."""
        suggestions = tuple(
            Suggestion(each["change"], tuple(each["overrides"])) for each in fields["suggestions"]
        )
        return cls(**fields | {"metrics": tuple(fields["metrics"]), "suggestions": suggestions})


def judge(
    criteria: Mapping[str, Criterion], n: int, margin: float, suggestions: tuple[Suggestion, ...]
) -> Verdict | None:
    """Return the verdict on a model by its criteria over `n` rows; None without criteria."""
    if not criteria:
        return None
    if beyond := tuple(name for name, each in criteria.items() if each.is_beyond(margin)):
        return Verdict(NOT_GOOD_ENOUGH, margin, beyond, suggestions=suggestions)
    undecided = {name: each for name, each in criteria.items() if not each.is_within(margin)}
    if not undecided:
        return Verdict(GOOD_ENOUGH, margin, tuple(criteria))
    needed = [each.rows_to_tell(n, margin) for each in undecided.values()]
    known = [rows for rows in needed if rows is not None]
    rows_needed = max(known) if len(known) == len(needed) else None
    return Verdict(TOO_FEW_ROWS, margin, tuple(undecided), rows_needed)
