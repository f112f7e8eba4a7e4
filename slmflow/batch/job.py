"""What a batch is given, checked before any model is loaded."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from mlflow.models import Model

from slmflow.batch import input_rows as source
from slmflow.batch import output, partitions, spark
from slmflow.batch.input_rows import Source
from slmflow.config.compose import Config
from slmflow.errors import BadArguments, UserError
from slmflow.flavors import chat_interfaces
from slmflow.flavors.chat_interfaces import Interface
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris, results, store

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A file, the model that answers it, how that is asked, and where the answers go.

    digest: sha256 of the file; key: of all that the answers depend on.
    """

    source: Source
    digest: str
    model_uri: str
    model: Model
    interface: Interface
    output: Path
    key: str
    partition_rows: int


def check(config: Config) -> Job:
    """Return the job. Raises UserError with everything that is wrong in one message."""
    given = config.batch
    problems = [
        f"batch.{key} is missing: give a .jsonl, .csv or .parquet file, -P {key}=FILE"
        for key, path in (("input", given.input), ("output", given.output))
        if path is None
    ]
    if missing := spark.problem(config.spark):
        problems.append(missing)
    model_uri = model_uris.resolved(given.model_uri, config.registry)

    def tried(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UserError as error:
            problems.append(str(error))
            return None

    model = tried(lambda: model_uris.read("batch.model_uri", model_uri))
    interface = tried(lambda: _interface(model_uri, model)) if model else None
    destination = PROJECT / str(given.output)
    if given.output is not None:
        tried(lambda: _check_output(destination))
    read = None
    if given.input is not None:
        typed = destination.suffix.lower() == ".parquet"
        read = tried(lambda: source.read(PROJECT / str(given.input), given.columns, typed=typed))
    if read is not None and given.output is not None:
        problems += output.problems(read, destination)
    if problems or read is None or model is None or interface is None:
        raise BadArguments("\n".join(problems))
    digest = store.sha256(read.file)
    return Job(
        source=read,
        digest=digest,
        model_uri=model_uri,
        model=model,
        interface=interface,
        output=destination,
        key=_key(config, digest, model),
        partition_rows=given.partition_rows,
    )


def _interface(model_uri: str, model: Model) -> Interface:
    try:
        return chat_interfaces.interface_of(model)
    except UserError as error:
        raise UserError(f"batch.model_uri={model_uri!r}: {error}") from error


def _check_output(destination: Path) -> None:
    output.refuse_existing(destination)
    if not partitions.writable(destination.parent):
        raise UserError(
            f"batch.output={str(destination)!r}: {destination.parent} is no folder that you may "
            "write to: make it, or name another"
        )


def _key(config: Config, digest: str, model: Model) -> str:
    """Return the sha256 of what the answers, and how they are cut into partitions, depend on."""
    given = config.batch
    depends = {
        "source": results.source_digest("batch"),
        "input": digest,
        "model": model.model_uuid,
        "columns": asdict(given.columns),
        "partition_rows": given.partition_rows,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
