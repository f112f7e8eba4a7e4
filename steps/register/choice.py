"""Which flavor is the better one."""

from collections.abc import Sequence

from steps.evaluate.result import FlavorFigures


def better(figures: Sequence[FlavorFigures]) -> tuple[FlavorFigures, str]:
    """Return the better flavor and the reason in words.

    More exact answers win; where they are level, the higher token F1; where that is level too,
    the lower median latency. A figure that was not measured loses against any that was.
    """
    ranked = sorted(figures, key=_rank, reverse=True)
    best = ranked[0]
    for other in ranked[1:]:
        for name, ours, theirs in zip(_CRITERIA, _rank(best), _rank(other), strict=True):
            if ours != theirs:
                return best, f"{name} {abs(ours):.4g} against {abs(theirs):.4g} of {other.flavor}"
    return best, "no other flavor is better"


_CRITERIA = ("exact_match", "token_f1", "latency_ms_p50")


def _rank(row: FlavorFigures) -> tuple[float, float, float]:
    worst = float("-inf")
    return (
        worst if row.exact_match is None else row.exact_match,
        worst if row.token_f1 is None else row.token_f1,
        worst if row.latency_ms_p50 is None else -row.latency_ms_p50,
    )
