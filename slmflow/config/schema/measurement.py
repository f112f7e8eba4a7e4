"""How models are measured: `measurement.*`."""

from collections.abc import Iterator
from dataclasses import dataclass

from slmflow.config.schema.fields import Kind, config_key


@dataclass
class Measurement:
    """How models are measured."""

    timed_rows: int = config_key(
        Kind.value,
        "rows that are timed, one request at a time; 0 measures no latency and no memory",
        32,
    )
    again: bool = config_key(
        Kind.value, "whether to time the rows anew, although this machine has timed them", False
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.timed_rows < 0:
            yield f"measurement.timed_rows={self.timed_rows}: must be at least 0"
