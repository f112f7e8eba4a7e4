"""What both flavors are asked, and how they are scored: `evaluation.*`."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from slmflow.config.schema.columns import column_problems
from slmflow.config.schema.model import pin_problems
from slmflow.metrics.builtin import BUILT_IN
from slmflow.paths import PROJECT, is_file

# What evaluation data can be, by the suffix of its file.
FORMATS = (".jsonl", ".csv", ".parquet")

# Where a template takes the question, and its choices.
QUESTION = "{question}"
CHOICES = "{choices}"

_FUNCTION = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*", re.ASCII | re.IGNORECASE)


@dataclass
class Columns:
    """Names of the fields or columns of the evaluation data."""

    question: str = "question"
    answer: str = "answer"
    messages: str = "messages"
    choices: str = "choices"
    subject: str = "subject"

    @property
    def names(self) -> list[str]:
        """What the columns are called."""
        return list(dataclasses.asdict(self).values())

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        yield from column_problems("evaluation.columns", self)


@dataclass
class HubDataset:
    """A data file of a dataset of the hub, at a commit."""

    id: str | None = None
    revision: str | None = None
    file: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
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
    """The rows both flavors answer, and what is sent with each.

    The rows are in a file, `data` (relative to the project), or in a `dataset` of the hub. system:
    text of the system message; template: the user message, with `{question}` in it, and `{choices}`
    where they are not to follow it; examples: a file of further rows, sent as earlier turns of user
    and assistant; seed: of the random choices
    of every answer, where the model samples; model_uri: a logged chat model, evaluated alone in
    place of the two flavors.
    """

    data: str | None = None
    dataset: HubDataset | None = None
    columns: Columns = field(default_factory=Columns)
    system: str | None = None
    template: str | None = None
    examples: str | None = None
    limit: int | None = None
    seed: int | None = 0
    model_uri: str | None = None
    metrics: list[str] = field(default_factory=list)  # see `user_metrics`

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.data is None and self.dataset is None:
            yield "evaluation.data is missing: give a file"
        if self.data is not None and self.dataset is not None:
            yield (
                f"evaluation.data={self.data!r} and evaluation.dataset.id={self.dataset.id!r}: "
                "give one of them"
            )
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
        for name in self.metrics:
            if name not in BUILT_IN and not _FUNCTION.fullmatch(name):
                yield (
                    f"evaluation.metrics={self.metrics}: {name!r} names no function: give "
                    "module:function, e.g. [my_package.my_module:my_function], or one that is "
                    f"built in: {', '.join(BUILT_IN)}"
                )
        if self.seed is not None and not 0 <= self.seed < 2**32:
            yield f"evaluation.seed={self.seed}: must be from 0 to 4294967295, or null for none"
        if self.limit is not None and self.limit < 1:
            yield f"evaluation.limit={self.limit}: must be at least 1, or null for all rows"

    @property
    def name(self) -> str:
        """What the data is called: the file without its suffix, or the dataset's id."""
        if self.dataset is not None:
            return str(self.dataset.id)
        return Path(self.data or "").stem


def _data_file_problems(key: str, path: str) -> Iterator[str]:
    if not is_file(PROJECT / path):
        yield f"{key}={path!r}: there is no file {PROJECT / path}"
    yield from _format_problems(key, path)


def _format_problems(key: str, path: str) -> Iterator[str]:
    if Path(path).suffix.lower() not in FORMATS:
        yield f"{key}={path!r}: must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
