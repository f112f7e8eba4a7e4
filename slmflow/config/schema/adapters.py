"""Where an adapter comes from: `model.adapter`, or one of `model.adapters`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Self

from slmflow.config.schema.pins import id_problems, is_model_uri, revision_problems, uri_problems
from slmflow.paths import PROJECT, is_folder

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


class AdapterMode(Enum):
    """What becomes of an adapter; merge: part of the weights, separate: beside them, by name."""

    merge = "merge"
    separate = "separate"


@dataclass(frozen=True)
class AdapterSource:
    """An adapter in a folder, in MLflow or, with a revision, on the hub.

    key, revision_key: the config keys, for messages.
    """

    key: str
    source: str
    revision: str | None
    revision_key: str

    @classmethod
    def named(cls, name: str, text: str) -> Self:
        """Return the source of `model.adapters.NAME`: on the hub it is `owner/name@COMMIT`."""
        key = f"model.adapters.{name}"
        source, at, revision = text.rpartition("@")
        if not at or is_model_uri(text) or is_folder(PROJECT / text):
            return cls(key, text, None, key)
        return cls(key, source, revision, key)

    @property
    def name(self) -> str:
        """The name in messages, e.g. `model.adapter='owner/name'`."""
        return f"{self.key}={self.source!r}"

    @property
    def short_name(self) -> str:
        """The last part of a path or hub id, or the name of a registered model."""
        uri = self.source.partition(":/")[2].strip("/")
        name = uri.partition("/")[0].partition("@")[0] if self.is_in_mlflow else ""
        return re.sub(r"[^\w.-]+", "-", name or Path(self.source).name, flags=re.ASCII)

    @property
    def is_in_mlflow(self) -> bool:
        """Whether it is part of a model in MLflow."""
        return self.revision is None and is_model_uri(self.source)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.revision is not None:
            yield from id_problems(self.key, self.source)
            yield from revision_problems(self.revision_key, self.revision)
        elif self.is_in_mlflow:
            yield from uri_problems(self.key, self.source)
        elif not is_folder(PROJECT / self.source):
            advice = "owner/name@COMMIT" if self.key == self.revision_key else self.revision_key
            yield (
                f"{self.name}: there is no folder {PROJECT / self.source}; an adapter of the hub "
                f"also needs its commit ({advice}), and one in MLflow begins with models:/"
            )


def name_problems(name: str, model: str) -> Iterator[str]:
    """Yield one message for an invalid name of a separate adapter of a model."""
    if not _NAME.fullmatch(name) or name == model:
        yield (
            f"model.adapters: the name {name!r} must consist of letters, digits, and . _ - after "
            f"the first, and differ from the model's ({model})"
        )
