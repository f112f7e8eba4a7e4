"""What a step hands to the next: a small frozen dataclass, kept as `result.json` of its run.

The class says how its key is made: which sections of the config the step reads, which results it
consumes and which packages shape what it makes. The data flow of slmflow is these `consumes`.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Self

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from slmflow.config.compose import ADDRESSES, FUNCTIONS, PATHS, Config, leaves
from slmflow.metrics import user_metrics
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris, store

FILE = "result.json"


class Stale(Exception):
    """A result whose files, model or artifacts are gone or altered; the message says which."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Base of every step's result: digests, paths in the store, URIs; plain JSON values only."""

    step: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    consumes: ClassVar[tuple[type["Result"], ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Raise Stale where what this result points to is gone or altered."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result that `to_json` made this object of."""
        return cls(**fields)


@dataclasses.dataclass(frozen=True)
class StoredResult(Result):
    """A result that is a folder of the store."""

    path: str

    def check(self) -> None:
        """Raise Stale unless the folder holds the files of its manifest."""
        try:
            store.verify(Path(self.path))
        except store.Broken as broken:
            raise Stale(str(broken)) from broken

    @property
    def folder(self) -> Path:
        """The folder in the store."""
        return Path(self.path)


@dataclasses.dataclass(frozen=True)
class LoggedModel(Result):
    """An MLflow model, `models:/m-...`, of one flavor."""

    flavor: ClassVar[str]

    model_uri: str
    model_id: str
    size_bytes: int

    @classmethod
    def of(cls, info: ModelInfo) -> Self:
        """Return what `log_model` has logged."""
        size = Model.load(info.model_uri).model_size_bytes or 0  # MLflow writes None for 0
        return cls(model_uri=info.model_uri, model_id=info.model_id, size_bytes=size)

    def check(self) -> None:
        """Raise Stale unless the tracking server still has the model and its files."""
        refuse_gone(self.model_uri)


def refuse_gone(model_uri: str) -> None:
    """Raise Stale unless there is a model at an address, and its files."""
    try:
        mlflow.models.get_model_info(model_uri)
    except (MlflowException, OSError) as error:
        raise Stale(f"{model_uri} is not there any more") from error


def key_of(kind: type[Result], config: Config) -> str:
    """Return the sha256 that names the result of `kind` under `config`.

    It covers the step's own source, the config it reads (a path counts by the content it points
    to, a model's address by the model, a user's function by its module's source too), the keys of
    what it consumes and the versions of the packages that shape it.
    """
    return _key(kind, leaves(config))


def _key(kind: type[Result], values: Mapping[str, Any]) -> str:
    """Return the key of `kind` under a config's values by their names."""
    parts = {
        "source": source_digest(kind.step),
        "config": {
            name: _counted(name, value)
            for name, value in values.items()
            if any(name == part or name.startswith(f"{part}.") for part in kind.reads)
        },
        "consumes": {other.step: _key(other, values) for other in kind.consumes},
        "packages": {package: metadata.version(package) for package in kind.packages},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _counted(name: str, value: Any) -> Any:
    """Return what of a config value goes into a key."""
    if name in PATHS and value:
        return _digest(PROJECT / value)
    if name in FUNCTIONS:
        return {where: user_metrics.source_digest(where) for where in value}
    if name in ADDRESSES and value:
        return model_uris.read(name, value).model_uuid
    return value


@functools.cache
def _digest(path: Path) -> str:
    return store.digest(path)


@functools.cache
def source_digest(step: str) -> str:
    """Return a sha256 over the source of a step."""
    sources = [PROJECT / "steps" / f"{step}.py", *sorted((PROJECT / "slmflow").rglob("*.py"))]
    texts = "".join(f"{file.relative_to(PROJECT)} {store.sha256(file)}\n" for file in sources)
    return hashlib.sha256(texts.encode()).hexdigest()
