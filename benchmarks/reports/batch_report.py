"""Show a batch measurement: a table for Markdown, raw values as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from importlib import metadata
from statistics import median

from benchmarks.harness.series import median_of_ratios, ratio_of_medians
from slmflow.reports import markdown
from slmflow.system.git_state import git_state

PACKAGES = ("mlflow", "pyspark", "onnxruntime", "onnxruntime-genai", "pandas", "pyarrow")


@dataclass(frozen=True)
class Report:
    """Seconds for all rows, one per round; equal_rows: those answered alike, one per round."""

    shape: str
    target: str
    master: str
    rows: int
    partition_rows: int
    machine: str
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

    def figures(self) -> dict[str, float]:
        """Return medians over the rounds, and ratios."""
        spark, here = self.spark_rows_per_s, self.in_process_rows_per_s
        return {
            f"Spark, {self.master}, rows/s": median(spark),
            "in process, rows/s": median(here),
            "ratio of medians": ratio_of_medians(spark, here) or 0.0,
            "median of ratios": median_of_ratios(spark, here) or 0.0,
            f"rows of {self.rows} that are equal": min(self.equal_rows),
        }

    def markdown(self, day: str) -> str:
        """Return the table with what it was measured on and how."""
        rows = [[name, _written(name, value)] for name, value in self.figures().items()]
        versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
        notes = [
            f"{day}, {self.machine}, {versions}",
            f"medians of {len(self.spark_s)} alternating rounds of {self.rows} rows in partitions "
            f"of {self.partition_rows}, warmed up; starting Spark and loading the models is in no "
            "figure; rows equal in the round with the fewest",
        ]
        table = markdown.table(("figure", "value"), rows)
        told = "\n".join(f"- {note}" for note in notes)
        return f"# A batch of {self.shape} at {self.target}\n\n{table}\n\n{told}\n"

    def json(self) -> str:
        """Return every raw value, and the figures made of them."""
        fields = {
            **dataclasses.asdict(self),
            "figures": self.figures(),
            "versions": _versions(),
            "git": git_state(),
        }
        return json.dumps(fields, indent=2)


def _written(name: str, value: float) -> str:
    digits = 0 if "equal" in name else 1 if "rows/s" in name else 2
    return f"{value:,.{digits}f}"


def _versions() -> dict[str, str]:
    return {package: metadata.version(package) for package in PACKAGES}
