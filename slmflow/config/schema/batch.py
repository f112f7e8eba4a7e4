"""A file of rows that a logged model answers, and the Spark that helps: `batch.*`, `spark.*`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from slmflow.config.schema.columns import column_problems
from slmflow.config.schema.evaluation import FORMATS
from slmflow.paths import PROJECT, is_file


@dataclass
class BatchColumns:
    """Names of the columns of a batch: of the input `question` or `messages`, the others of what
    the output has beside the input's own columns.
    """

    question: str = "question"
    messages: str = "messages"
    answer: str = "answer"
    prompt_tokens: str = "prompt_tokens"
    completion_tokens: str = "completion_tokens"
    error: str = "error"

    @property
    def added(self) -> list[str]:
        """What the output has beside the input's own columns, in its order."""
        return [self.answer, self.prompt_tokens, self.completion_tokens, self.error]

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        yield from column_problems("batch.columns", self)


@dataclass
class Batch:
    """A file that is answered whole.

    model_uri: a model's address, `registered` for the version with the alias of `registry`; input,
    output: files, relative to the project; partition_rows: how many rows are answered and kept
    together, so that a job which is started again repeats at most what was under way.
    """

    model_uri: str = MISSING
    input: str | None = None
    output: str | None = None
    columns: BatchColumns = field(default_factory=BatchColumns)
    partition_rows: int = 64

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if not self.model_uri:
            yield "batch.model_uri is empty: give models:/NAME@ALIAS, or registered"
        for key, path in (("input", self.input), ("output", self.output)):
            if path is not None and Path(path).suffix.lower() not in FORMATS:
                yield (
                    f"batch.{key}={path!r}: must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
                )
        if self.input is not None and not is_file(PROJECT / self.input):
            yield f"batch.input={self.input!r}: there is no file {PROJECT / self.input}"
        yield from self.columns.problems()
        if self.partition_rows < 1:
            yield f"batch.partition_rows={self.partition_rows}: must be at least 1"


@dataclass
class Spark:
    """The Spark that works on a batch.

    master: as Spark writes it, `local[2]` or `spark://host:7077`; None answers in this process,
    unless that is inside a Databricks runtime.
    """

    master: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.master is not None and not self.master.strip():
            yield "spark.master is blank: give a master such as local[2], or null for none"
