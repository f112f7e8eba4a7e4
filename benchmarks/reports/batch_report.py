"""Report a batch measurement: a table of medians, and all raw values as JSON."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.harness.timings import median_of_ratios, ratio_of_medians
from benchmarks.reports import page
from slmflow.reports import markdown

PACKAGES = ("mlflow", "pyspark", "onnxruntime", "onnxruntime-genai", "pandas", "pyarrow")


@dataclass(frozen=True)
class Report:
    """Seconds for all rows, and rows with equal answers, one per round."""

    shape: str
    target: str
    master: str
    rows: int
    partition_rows: int
    spark_s: tuple[float, ...]
    in_process_s: tuple[float, ...]
    equal_rows: tuple[int, ...]

    @property
    def spark_rows_per_s(self) -> tuple[float, ...]:
        """Rows per second of Spark, one per round."""
        return tuple(self.rows / seconds for seconds in self.spark_s)

    @property
    def in_process_rows_per_s(self) -> tuple[float, ...]:
        """Rows per second of one process, one per round."""
        return tuple(self.rows / seconds for seconds in self.in_process_s)

    def statistics(self) -> dict[str, float]:
        """Return medians over the rounds, and ratios."""
        spark, in_process = self.spark_rows_per_s, self.in_process_rows_per_s
        return {
            f"Spark, {self.master}, rows/s": median(spark),
            "in process, rows/s": median(in_process),
            "ratio of medians": ratio_of_medians(spark, in_process) or 0.0,
            "median of ratios": median_of_ratios(spark, in_process) or 0.0,
            f"rows of {self.rows} that are equal": min(self.equal_rows),
        }

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        rows = [[name, _format(name, value)] for name, value in self.statistics().items()]
        table = markdown.table(("figure", "value"), rows)
        return page.render(f"A batch of {self.shape} at {self.target}", table, self._notes())

    def json(self) -> str:
        """Return every raw value and the statistics."""
        fields = dataclasses.asdict(self) | {"figures": self.statistics()}
        return json.dumps(fields | page.setup_fields(PACKAGES), indent=2)

    def _notes(self) -> Iterator[str]:
        yield page.setup_note(PACKAGES)
        yield (
            f"medians of {len(self.spark_s)} alternating rounds of {self.rows} rows in partitions "
            f"of {self.partition_rows}, after warm-up rounds; the times exclude starting Spark and "
            "loading the models; equal rows: in the round with the fewest"
        )


def _format(name: str, value: float) -> str:
    digits = 0 if "equal" in name else 1 if "rows/s" in name else 2
    return f"{value:,.{digits}f}"
