"""Validate the config of a batch job before the model is loaded."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from mlflow.models import Model

from slmflow.batch import input_rows, output, remote_files, spark
from slmflow.batch.input_rows import InputFile
from slmflow.config.schema.config import Config
from slmflow.errors import BadArguments, UserError
from slmflow.flavors import chat_interfaces
from slmflow.flavors.chat_interfaces import ChatInterface
from slmflow.paths import is_uri
from slmflow.pipeline import digests, model_uris, source_code

T = TypeVar("T")


@dataclass(frozen=True)
class BatchJob:
    """A batch job: the input file, the model and its chat interface, and the output path.

    address: the output's path, or the URI to which the finished output moves.
    input_digest: sha256 of the input file; key: sha256 of everything the answers depend on.
    """

    input_file: InputFile
    input_digest: str
    model_uri: str
    model: Model
    interface: ChatInterface
    output: Path
    address: str
    key: str
    partition_rows: int

    def check_input_unchanged(self) -> None:
        """Raise UserError if the input file has changed since the job was prepared."""
        if digests.sha256(self.input_file.path) != self.input_digest:
            raise UserError(f"{self.input_file.path} changed while the job ran: run the job again")


def prepare_job(config: Config) -> BatchJob:
    """Validate the config and return the job. Raises BadArguments with all problems at once."""
    settings = config.batch
    problems = [
        f"batch.{key} is missing: set it to a .jsonl, .csv or .parquet file, -P {key}=FILE"
        for key, path in (("input", settings.input), ("output", settings.output))
        if path is None
    ]
    if spark_problem := spark.find_problem(config.spark):
        problems.append(spark_problem)
    model_uri = model_uris.resolve(settings.model_uri, config)

    def attempt(function: Callable[[], T]) -> T | None:
        try:
            return function()
        except UserError as error:
            problems.append(str(error))
            return None

    model = attempt(lambda: model_uris.load_metadata("batch.model_uri", model_uri))
    interface = attempt(lambda: _interface(model_uri, model)) if model else None
    output_path = remote_files.local_output(str(settings.output))
    if (address := settings.output) is not None:
        attempt(lambda: _check_output(address, output_path))
    input_file = input_path = None
    if (source := settings.input) is not None:
        input_path = attempt(lambda: remote_files.local_input(source))
    if (file := input_path) is not None:
        typed = output_path.suffix.lower() == ".parquet"
        input_file = attempt(lambda: input_rows.inspect(file, settings.columns, typed=typed))
    if input_file is not None and settings.output is not None:
        problems += output.find_problems(input_file, output_path)
    if input_file is not None and model is not None and chat_interfaces.is_base_model(model):
        problems += _message_problems(input_file)
    if problems or input_file is None or model is None or interface is None:
        raise BadArguments("\n".join(problems))
    digest = digests.sha256(input_file.path)
    return BatchJob(
        input_file=input_file,
        input_digest=digest,
        model_uri=model_uri,
        model=model,
        interface=interface,
        output=output_path,
        address=str(settings.output if is_uri(str(settings.output)) else output_path),
        key=_key(config, digest, model),
        partition_rows=settings.partition_rows,
    )


def _interface(model_uri: str, model: Model) -> ChatInterface:
    try:
        return chat_interfaces.find_interface(model)
    except UserError as error:
        raise UserError(f"batch.model_uri={model_uri!r}: {error}") from error


def _message_problems(input_file: InputFile) -> Iterator[str]:
    """Yield the problem of a base model if the input has messages."""
    columns = input_file.columns
    if input_file.message_rows:
        yield (
            f"{input_file.path}: {input_file.message_rows} of {input_file.row_count} rows have the "
            f"column {columns.messages}, but the model has no chat template, so it takes prompts: "
            f"give each row a prompt in the column {columns.question} (batch.columns.question), or "
            "log the model again with model.template=FILE"
        )


def _check_output(address: str, path: Path) -> None:
    if is_uri(address):
        remote_files.require_absent(address)
        return
    output.require_absent(path)
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise UserError(
            f"batch.output={str(path)!r}: {path.parent} is not a writable folder: create it, or "
            "choose another"
        )


def _key(config: Config, input_digest: str, model: Model) -> str:
    """Return the sha256 of everything the answers and their partitions depend on."""
    settings = config.batch
    dependencies = {
        "source": source_code.digest("steps.batch"),
        "input": input_digest,
        "model": model.model_uuid,
        "columns": asdict(settings.columns),
        "partition_rows": settings.partition_rows,
    }
    return hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()
