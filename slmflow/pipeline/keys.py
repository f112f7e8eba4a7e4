"""The key of a result: a sha256 over everything that shapes it."""

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from slmflow.config.compose import flatten
from slmflow.config.config_keys import kinds
from slmflow.config.schema.config import Config
from slmflow.config.schema.fields import Kind
from slmflow.metrics import user_metrics
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris, store
from slmflow.pipeline.results import Result


def key_of(kind: type[Result], config: Config) -> str:
    """Return the sha256 that names the result of `kind` under `config`."""
    return _key(kind, flatten(config))


def _key(kind: type[Result], values: Mapping[str, Any]) -> str:
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
    kind = kinds().get(name)
    if kind is Kind.path and value:
        return _digest(PROJECT / value)
    if kind is Kind.functions:
        return {where: user_metrics.source_digest(where) for where in value}
    if kind is Kind.model_uri and value:
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
