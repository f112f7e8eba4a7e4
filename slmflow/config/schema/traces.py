"""Which traces of the server are read: `evaluation.traces.*`, and a part of `drift.*`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file

_AGO = re.compile(r"(\d{1,5})([dh])", re.ASCII)


@dataclass
class Traces:
    """The traces of `serve` with `serve.tracing=content` from which rows are made."""

    experiment: str | None = config_key(
        Kind.text, "experiment with the traces, by name; null is that of the run", None
    )
    last: int = config_key(Kind.value, "most traces to read, the newest first", 1000)
    since: str | None = config_key(
        Kind.text, "the oldest: a date, a time with its zone, or 7d or 12h ago; null is any", None
    )
    rows: str | None = config_key(
        Kind.path, "file of rows that the first step has made; null makes it", None
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        yield from selection_problems("evaluation.traces", self.last, self.since)
        if self.rows is not None and not is_file(PROJECT / self.rows):
            yield (
                f"evaluation.traces.rows={self.rows!r}: there is no such file; leave it out, and "
                "it is made from the traces"
            )


def selection_problems(section: str, last: int, since: str | None) -> Iterator[str]:
    """Yield the problems of the keys that say which traces to read."""
    if not 1 <= last <= 100_000:
        yield f"{section}.last={last}: must be 1 to 100000"
    if since is not None and oldest_ms(since) is None:
        yield (
            f"{section}.since={since!r}: give a date such as 2026-05-31, a time such as "
            "2026-05-31T12:00+00:00, or an age such as 7d or 12h"
        )


def oldest_ms(since: str) -> int | None:
    """Return a point in time in milliseconds since 1970; None if the text names none.

    A date without a zone is in UTC.
    """
    if ago := _AGO.fullmatch(since):
        unit = {"d": "days", "h": "hours"}[ago[2]]
        moment = datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    else:
        try:
            moment = datetime.fromisoformat(since)
        except ValueError:
            return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return round(moment.timestamp() * 1000)
    except OverflowError:
        return None
