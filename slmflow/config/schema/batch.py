"""A batch job, which answers a file of rows, and the Spark that runs it: `batch.*`, `spark.*`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slmflow.config.schema.columns import column_problems
from slmflow.config.schema.evaluation import FORMATS
from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file


@dataclass
class BatchColumns:
    """Column names of a batch job. The output has all columns of the input and the added ones."""

    question: str = config_key(Kind.text, "input column with the user message", "question")
    messages: str = config_key(Kind.text, "input column with a whole conversation", "messages")
    answer: str = config_key(Kind.text, "added column: the generated text", "answer")
    prompt_tokens: str = config_key(
        Kind.text, "added column: tokens of the prompt", "prompt_tokens"
    )
    completion_tokens: str = config_key(
        Kind.text, "added column: generated tokens", "completion_tokens"
    )
    error: str = config_key(Kind.text, "added column: why the row has no answer", "error")

    @property
    def added(self) -> list[str]:
        """The columns that the output adds to those of the input, in order."""
        return [self.answer, self.prompt_tokens, self.completion_tokens, self.error]

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        yield from column_problems("batch.columns", self)


@dataclass
class Batch:
    """A file of rows that a logged model answers."""

    model_uri: str = config_key(
        Kind.model_uri, "URI of a logged model; `registered` is the version with `registry.alias`"
    )
    input: str | None = config_key(Kind.path, "file of rows: .jsonl, .csv or .parquet", None)
    output: str | None = config_key(Kind.path, "new file with the answers, same formats", None)
    columns: BatchColumns = field(default_factory=BatchColumns)
    partition_rows: int = config_key(
        Kind.value, "rows stored together; a restarted job repeats at most the open partitions", 64
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
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
    """The Spark cluster of a batch job."""

    master: str | None = config_key(
        Kind.text,
        "Spark master, such as local[2] or spark://host:7077; null uses this process, "
        "or the session of a Databricks runtime",
        None,
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.master is not None and not self.master.strip():
            yield "spark.master is blank: give a master such as local[2], or null for none"
