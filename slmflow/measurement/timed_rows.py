"""Choose the rows whose requests are timed."""

from collections.abc import Sequence

from slmflow.datasets.rows import Row


def select(rows: Sequence[Row], count: int, excluded: frozenset[int] = frozenset()) -> list[int]:
    """Return the numbers, in order, of at most `count` rows, a sample stratified by prompt length.

    The rows that are not excluded are sorted by the length of their messages in characters and
    divided into `count` strata of equal size; the middle row of each is chosen.
    """
    candidates = sorted(
        (number for number in range(len(rows)) if number not in excluded),
        key=lambda number: sum(len(message["content"]) for message in rows[number].messages),
    )
    count = min(count, len(candidates))
    return sorted(candidates[len(candidates) * (2 * i + 1) // (2 * count)] for i in range(count))
