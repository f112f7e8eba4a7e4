"""A batch job, which answers a file of rows, and the Spark that runs it: `batch.*`, `spark.*`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slmflow.config.schema.columns import column_problems
from slmflow.config.schema.evaluation import FORMATS
from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file, is_temporary_clone, is_uri

_READ_ONLY = ("models:", "http:", "https:")


def _is_lost(path: str) -> bool:
    """Return whether a file at this path would end with the clone that the project is."""
    return not Path(path).is_absolute() and is_temporary_clone()


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
        Kind.model_uri, "URI of a logged model; `registered` is the target's version"
    )
    input: str | None = config_key(Kind.path, "file or URI of rows: .jsonl, .csv or .parquet", None)
    output: str | None = config_key(Kind.path, "new file or URI of the answers, same formats", None)
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
        if self.output is not None and is_uri(self.output) and self.output.startswith(_READ_ONLY):
            yield (
                f"batch.output={self.output!r}: nothing can be written there; give a file, or a "
                "URI such as s3://BUCKET/answers.jsonl or runs:/RUN_ID/answers.jsonl"
            )
        if self.output is not None and not is_uri(self.output) and _is_lost(self.output):
            yield (
                f"batch.output={self.output!r} is relative to the project, which is a temporary "
                "clone here: give an absolute path, such as $PWD/answers.jsonl"
            )
        if self.input is not None and not is_uri(self.input) and not is_file(PROJECT / self.input):
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
