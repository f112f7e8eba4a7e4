"""Notes on what a comparison rests on: timed rows, rows not answered, the check of batches."""

from collections.abc import Sequence

from slmflow.datasets.rows import Row
from slmflow.measurement.records import Measurement

_MAX_NAMED = 10


def of_measurements(measured: Sequence[Measurement], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a sentence for each note; measured: the models on the same rows.

    Tasks of lm-evaluation-harness have no rows, and no notes.
    """
    if not rows:
        return ()
    return (*_timings(measured, rows), *_not_answered(measured, rows), *_batches(measured, rows))


def _timings(measured: Sequence[Measurement], rows: Sequence[Row]) -> list[str]:
    counts = {each.model.flavor: len(each.timings) for each in measured}
    if not any(counts.values()):
        return ["No row was timed (measurement.timed_rows=0), so no latency or memory is known."]
    parts = [f"{count:,} rows for {flavor}" for flavor, count in counts.items()]
    if len(set(counts.values())) == 1:
        parts = [f"{next(iter(counts.values())):,} rows"]
    return [
        f"The times and their intervals rest on {' and '.join(parts)} of {len(rows):,} "
        "(measurement.timed_rows), one request at a time; all other metrics rest on all rows."
    ]


def _not_answered(measured: Sequence[Measurement], rows: Sequence[Row]) -> list[str]:
    """Name the rows that each model did not answer; models with the same ones share a sentence."""
    flavors: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for each in measured:
        errors = tuple((n, a.error) for n, a in enumerate(each.answers) if a.error is not None)
        if errors:
            flavors.setdefault(errors, []).append(each.model.flavor)
    return [
        f"{' and '.join(names)} did not answer {len(errors):,} of {len(rows):,} rows, which count "
        f"as wrong: {_name(errors, rows)}."
        for errors, names in flavors.items()
    ]


def _name(errors: Sequence[tuple[int, str]], rows: Sequence[Row]) -> str:
    named = [f"{_location(rows, number)}: {error.rstrip('.')}" for number, error in errors]
    more = [f"and {len(named) - _MAX_NAMED} more"] if len(named) > _MAX_NAMED else []
    return "; ".join([*named[:_MAX_NAMED], *more])


def _batches(measured: Sequence[Measurement], rows: Sequence[Row]) -> list[str]:
    """Say for each model whether a batch changed the answers that were given alone before."""
    sentences = []
    for each in measured:
        if (check := each.batch_check) is None:
            continue
        answers = f"{each.model.flavor} answered {check.rows} rows both alone and in a batch"
        different = [_location(rows, number) for number in check.different]
        if different:
            sentences.append(f"{answers}; {', '.join(different)} differed.")
        else:
            sentences.append(f"{answers}, with equal answers.")
    return sentences


def _location(rows: Sequence[Row], number: int) -> str:
    return rows[number].location or f"row {number + 1}"
