"""The evaluation rows, and how answers to them are requested and scored: `evaluation.*`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from slmflow.config.schema.columns import column_problems
from slmflow.config.schema.fields import Kind, config_key
from slmflow.config.schema.pins import pin_problems
from slmflow.config.schema.traces import Traces
from slmflow.paths import PROJECT, is_file, is_folder

FORMATS = (".jsonl", ".csv", ".parquet")
"""File suffixes of evaluation data."""

QUESTION = "{question}"
CHOICES = "{choices}"
"""Placeholders of a template."""


class Reference(Enum):
    """What the converted model is compared with.

    transformers: the original in the transformers flavor; none: nothing.
    """

    transformers = "transformers"
    none = "none"


@dataclass
class Columns:
    """Names of the fields or columns of the evaluation data."""

    question: str = config_key(Kind.text, "column with the user message", "question")
    answer: str = config_key(Kind.text, "column with the expected answer, or several", "answer")
    messages: str = config_key(Kind.text, "column with a whole conversation", "messages")
    choices: str = config_key(Kind.text, "column with the choices of multiple choice", "choices")
    subject: str = config_key(Kind.text, "column that groups rows with choices", "subject")

    @property
    def names(self) -> list[str]:
        """The configured column names."""
        return list(dataclasses.asdict(self).values())

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        yield from column_problems("evaluation.columns", self)


@dataclass
class HubDataset:
    """One data file of a hub dataset, at a pinned commit."""

    id: str | None = config_key(Kind.text, "dataset on the hub, owner/name", None)
    revision: str | None = config_key(Kind.text, "its commit, 40 hexadecimal digits", None)
    file: str | None = config_key(
        Kind.text, "path of the file in the dataset: .jsonl, .csv or .parquet", None
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        yield from pin_problems("evaluation.dataset", self.id, self.revision)
        path = PurePosixPath(self.file or "")
        if not path.name or path.is_absolute() or ".." in path.parts or "\\" in str(path):
            yield (
                f"evaluation.dataset.file={self.file!r} is not a file of the dataset: give its "
                "path as the hub page's 'Files' shows it, such as data/test.parquet"
            )
        else:
            yield from _format_problems("evaluation.dataset.file", str(path))


@dataclass
class EvaluationData:
    """The rows that are evaluated, of `data`, `dataset` or `traces`, and what is sent with them."""

    data: str | None = config_key(Kind.path, "file of rows: .jsonl, .csv or .parquet", None)
    dataset: HubDataset | None = config_key(Kind.section, "a file of a hub dataset", None)
    traces: Traces | None = config_key(Kind.section, "traces of the server", None)
    columns: Columns = field(default_factory=Columns)
    system: str | None = config_key(
        Kind.text, "system message; conversations that begin with one keep their own", None
    )
    template: str | None = config_key(
        Kind.text,
        "user message with {question} in it; {choices} places the choices, which else follow it",
        None,
    )
    examples: str | None = config_key(
        Kind.path, "file of rows sent as earlier turns of user and assistant", None
    )
    limit: int | None = config_key(Kind.value, "number of rows; null is all", None)
    seed: int | None = config_key(
        Kind.value, "seed of every answer where the model samples; null is a new one each time", 0
    )
    tasks: list[str] = config_key(
        Kind.tasks, "tasks of lm-evaluation-harness, in place of rows", list
    )
    task_folder: str | None = config_key(
        Kind.path, "folder with task files of your own (.yaml), which may run code", None
    )
    model_uri: str | None = config_key(
        Kind.model_uri, "logged chat model to evaluate alone in place of the two flavors", None
    )
    reference: Reference = config_key(
        Kind.value, "what the converted model is compared with", Reference.transformers
    )
    margin: float = config_key(
        Kind.value,
        "how much worse than the reference is still good enough: 0.05 is 5 points of a share, and "
        "5 % of the perplexity",
        0.05,
    )
    metrics: list[str] = config_key(
        Kind.functions, "further metrics: json_valid, or your own as module:function", list
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.tasks:
            yield from self._task_problems()
        elif self.task_folder is not None:
            yield (
                f"evaluation.task_folder={self.task_folder!r}: name its tasks in evaluation.tasks"
            )
        elif self.data is None and self.dataset is None and self.traces is None:
            yield "evaluation.data is missing: give a file, or evaluation.tasks=[NAME]"
        if self.data is not None and self.dataset is not None:
            yield (
                f"evaluation.data={self.data!r} and evaluation.dataset.id={self.dataset.id!r}: "
                "give one of them"
            )
        if self.traces is not None:
            for key, value in (("data", self.data), ("dataset", self.dataset)):
                if value is not None:
                    yield f"evaluation.{key} and evaluation.traces: give one of them"
            yield from self.traces.problems()
        for key, path in (("data", self.data), ("examples", self.examples)):
            if path is not None:
                yield from _data_file_problems(f"evaluation.{key}", path)
        if self.dataset is not None:
            yield from self.dataset.problems()
        yield from self.columns.problems()
        if self.system is not None and not self.system.strip():
            yield "evaluation.system is blank: give a text, or null for no system message"
        if self.template is not None and QUESTION not in self.template:
            yield (
                f"evaluation.template={self.template!r} has no {QUESTION}: write it where the "
                "question goes, or give null for the question as it is"
            )
        if self.seed is not None and not 0 <= self.seed < 2**32:
            yield f"evaluation.seed={self.seed}: must be from 0 to 4294967295, or null for none"
        if self.limit is not None and self.limit < 1:
            yield f"evaluation.limit={self.limit}: must be at least 1, or null for all rows"
        if not 0 < self.margin < 1:
            yield f"evaluation.margin={self.margin}: must be between 0 and 1, such as 0.05"

    def _task_problems(self) -> Iterator[str]:
        given = {
            "data": self.data,
            "dataset": self.dataset,
            "traces": self.traces,
            "template": self.template,
            "examples": self.examples,
            "metrics": self.metrics,
        }
        for key, value in given.items():
            if value:
                yield (
                    f"evaluation.{key} has no effect on evaluation.tasks: choose "
                    "evaluation=lm_eval, which has tasks in place of rows, and leave it out"
                )
        if self.task_folder is not None and not is_folder(PROJECT / self.task_folder):
            yield (
                f"evaluation.task_folder={self.task_folder!r}: there is no folder "
                f"{PROJECT / self.task_folder}"
            )

    @property
    def name(self) -> str:
        """Name of the data: the file's name without its suffix, the dataset's id, or traces."""
        if self.tasks:
            return "lm_eval"
        if self.dataset is not None:
            return str(self.dataset.id)
        if self.traces is not None:
            return "traces"
        return Path(self.data or "").stem


def _data_file_problems(key: str, path: str) -> Iterator[str]:
    if not is_file(PROJECT / path):
        yield f"{key}={path!r}: there is no file {PROJECT / path}"
    yield from _format_problems(key, path)


def _format_problems(key: str, path: str) -> Iterator[str]:
    if Path(path).suffix.lower() not in FORMATS:
        yield f"{key}={path!r}: must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
