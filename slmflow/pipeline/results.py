"""The results of the steps, in the order of the data flow.

    fetch -> Weights -> convert -> OnnxModel -> log_* -> LoggedModel -> measure -> Measurements
    -> evaluate -> Evaluation -> register -> ModelVersion

A result is plain data: ids, URIs, paths in the store, numbers. A step logs it as the artifact
`result.json` of its run. Each class also declares what its key covers (see `keys`): the parts of
the config that the step reads, the results it consumes, and the packages that shape its output.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from slmflow.config.schema.config import STEPS, Config
from slmflow.config.schema.evaluation import Reference
from slmflow.config.schema.registry import CHAMPION
from slmflow.config.schema.target import Algorithm
from slmflow.pipeline import manifests, registered_models, store

FILE = "result.json"

_OF_CALIBRATION = ("calibration.data", "calibration.tokens")


# `kind/key`, at the end of the absolute paths that earlier versions recorded.
_ENTRY = re.compile(r"(?:/(?:[^/]+/)*)?([a-z]+/[0-9a-f]{64})")


class InvalidResult(Exception):
    """A result whose files, model or artifacts are missing or changed; the message says which."""


class AbsentResult(InvalidResult):
    """A result whose folder is not in this store, such as that of another user."""


@dataclass(frozen=True)
class Result:
    """Base of every step's result."""

    step: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    consumes: ClassVar[tuple[type["Result"], ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def reads_under(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the parts of `reads` that matter with the values of the config, by key."""
        return cls.reads

    @classmethod
    def inputs(cls, config: Config) -> tuple[type["Result"], ...]:
        """Return the results whose files or runs the step works on, in the order of the data flow.

        What it consumes besides these only counts in the key.
        """
        return cls.consumes

    @classmethod
    def has_timings(cls, values: Mapping[str, Any]) -> bool:
        """Return whether the result itself has timings, with the values of the config by key."""
        return False

    def check(self) -> None:
        """Raise InvalidResult if anything that this result refers to is missing or changed."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result from the JSON object of `to_json`."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


@dataclass(frozen=True)
class StoredResult(Result):
    """A folder of the store; path: `kind/key` in `result.json`, where it is relative."""

    path: str

    @property
    def folder(self) -> Path:
        """The folder in this user's store."""
        return store.home() / self.path

    def check(self) -> None:
        """Raise InvalidResult unless the folder holds the files of its manifest.

        AbsentResult says that this store does not have the folder.
        """
        _require_entry(self.folder)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object; the path is relative, as stores differ."""
        is_here = self.folder.is_relative_to(store.home())
        path = self.folder.relative_to(store.home()).as_posix() if is_here else self.path
        return super().to_json() | {"path": path}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result, with the path in this store if it names an entry of any store.

        Raises ValueError if it names none.
        """
        entry = _ENTRY.fullmatch(str(fields.get("path")))
        if entry is None:
            raise ValueError(f"{fields.get('path')!r} names no entry of a store")
        return super().from_json(fields | {"path": entry[1]})


@dataclass(frozen=True)
class LoggedModel(Result):
    """An MLflow model, `models:/m-...`, of one flavor."""

    flavor: ClassVar[str]

    model_uri: str
    model_id: str
    size_bytes: int

    @classmethod
    def from_info(cls, info: ModelInfo) -> Self:
        """Return the result for a model that `log_model` logged."""
        size = Model.load(info.model_uri).model_size_bytes or 0  # MLflow writes None for 0
        return cls(model_uri=info.model_uri, model_id=info.model_id, size_bytes=size)

    def check(self) -> None:
        """Raise InvalidResult unless the tracking server still has the model and its files."""
        _require_model(self.model_uri)


@dataclass(frozen=True)
class Weights(StoredResult):
    """Verified weights, config and tokenizer in the layout of a hub snapshot.

    adapter: another entry, `adapters/key`, with the adapter of these weights; with a folder for
    each if they stay separate.
    """

    step: ClassVar = "fetch"
    reads: ClassVar = (
        *("model.source", "model.id", "model.revision", "model.path", "model.uri"),
        *("model.template", "model.adapter", "model.adapter_revision"),
        *("model.adapter_mode", "model.adapters"),
    )
    packages: ClassVar = ("sentencepiece", "tokenizers", "transformers")

    adapter: str | None = None

    @property
    def adapter_folder(self) -> Path | None:
        """The folder of the adapter in this user's store."""
        return None if self.adapter is None else store.home() / self.adapter

    def check(self) -> None:
        """Raise InvalidResult unless weights and adapter hold the files of their manifests."""
        super().check()
        if self.adapter_folder is not None:
            _require_entry(self.adapter_folder)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the result. Raises ValueError if a path names no entry of a store."""
        adapter = fields.get("adapter")
        if adapter is not None and not _ENTRY.fullmatch(str(adapter)):
            raise ValueError(f"{adapter!r} names no entry of a store")
        return super().from_json(fields)


@dataclass(frozen=True)
class OnnxModel(StoredResult):
    """An ONNX model with genai_config.json and tokenizer: a folder the GenAI runtime loads.

    mean_kl: its divergence from the original on held-out text, in nats.
    """

    step: ClassVar = "convert"
    reads: ClassVar = (
        *("target", "exporter"),
        *("calibration.held_out", *_OF_CALIBRATION),
    )
    consumes: ClassVar = (Weights,)
    packages: ClassVar = (
        *("onnx", "onnxruntime", "onnxruntime-genai"),
        *("optimum", "torch", "transformers"),
    )

    mean_kl: float | None = None

    @classmethod
    def reads_under(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Leave out the calibration text unless the algorithm uses it."""
        if values.get("target.quantization.algorithm") == Algorithm.gptq.value:
            return cls.reads
        return tuple(part for part in cls.reads if part not in _OF_CALIBRATION)


@dataclass(frozen=True)
class TransformersModel(LoggedModel):
    """The transformers pipeline under `llm/v1/chat`."""

    flavor: ClassVar = "transformers"
    step: ClassVar = "log_transformers"
    reads: ClassVar = ("generation", "model.licence")
    consumes: ClassVar = (Weights,)
    packages: ClassVar = ("mlflow", "torch", "transformers")


@dataclass(frozen=True)
class GenaiModel(LoggedModel):
    """The custom pyfunc over ONNX Runtime GenAI."""

    flavor: ClassVar = "genai"
    step: ClassVar = "log_genai"
    reads: ClassVar = ("generation", "log_genai", "model.licence", "model.name", "target")
    consumes: ClassVar = (Weights, OnnxModel)
    packages: ClassVar = ("mlflow", "onnxruntime-genai")


@dataclass(frozen=True)
class Measurements(Result):
    """Each model's answers to every row: the artifact `measurements.json` of a run.

    machine: the hardware and package versions, by name; model_uris: the measured models, the
    reference first.
    """

    artifact: ClassVar = "measurements.json"
    step: ClassVar = "measure"
    reads: ClassVar = (
        *("evaluation.data", "evaluation.dataset", "evaluation.columns", "evaluation.limit"),
        "evaluation.traces.rows",
        *("evaluation.system", "evaluation.template", "evaluation.examples"),
        *("evaluation.seed", "evaluation.model_uri", "evaluation.reference"),
        *("evaluation.tasks", "evaluation.task_folder"),
        "measurement.timed_rows",
    )
    consumes: ClassVar = (TransformersModel, GenaiModel)
    packages: ClassVar = ("mlflow", "onnxruntime", "onnxruntime-genai", "torch", "transformers")

    run_id: str
    machine: dict[str, str]
    model_uris: tuple[str, ...]

    @classmethod
    def has_timings(cls, values: Mapping[str, Any]) -> bool:
        """Return whether rows are timed: the tasks of lm-evaluation-harness are not."""
        return bool(values["measurement.timed_rows"]) and not values["evaluation.tasks"]

    @classmethod
    def inputs(cls, config: Config) -> tuple[type[LoggedModel], ...]:
        """Return the flavors that are compared, the reference first."""
        if config.evaluation.model_uri is not None:
            return ()
        is_alone = config.evaluation.reference is Reference.none
        return (GenaiModel,) if is_alone else (TransformersModel, GenaiModel)

    def check(self) -> None:
        """Raise InvalidResult unless the run still has its answers, and the models still exist."""
        _require_artifact(self.run_id, self.artifact)
        for model_uri in self.model_uris:
            _require_model(model_uri)


@dataclass(frozen=True)
class Evaluation(Result):
    """The comparison of both flavors of a model: the artifact `comparison.json` of a run.

    model: the name of the model; metrics: the metrics of each compared flavor as plain data, the
    reference first (`Comparison` in `slmflow.metrics` reads and writes them).
    """

    artifact: ClassVar = "comparison.json"
    step: ClassVar = "evaluate"
    reads: ClassVar = ("evaluation",)
    consumes: ClassVar = (OnnxModel, Measurements)
    packages: ClassVar = ("mlflow", "regex", "sacrebleu", "scipy")

    run_id: str
    model: str
    metrics: tuple[dict[str, Any], ...]

    @classmethod
    def inputs(cls, config: Config) -> tuple[type[Result], ...]:
        """Leave out the graph: its record is enough, and small files are in the logged models."""
        return (Measurements,)

    def check(self) -> None:
        """Raise InvalidResult unless the run has its comparison, and the models still exist."""
        _require_artifact(self.run_id, self.artifact)
        for flavor in self.metrics:
            _require_model(flavor["model_uri"])


@dataclass(frozen=True)
class ModelVersion(Result):
    """A version of a registered model, under an alias.

    alias: `registry.alias`; aliases: the version under it, and under that of the target, when this
    one was registered, or another that kept it; champion: the version with the alias `champion`
    then, this one if it was promoted, None if there was none; evaluation: the run id of the
    evaluation behind its metrics.
    """

    step: ClassVar = "register"
    reads: ClassVar = (
        *("registry.name", "registry.alias", "registry.flavor", "registry.promote"),
        "registry.gate",
    )
    consumes: ClassVar = (Evaluation,)
    packages: ClassVar = ("mlflow",)

    name: str
    version: str
    alias: str
    aliases: dict[str, str]
    flavor: str
    reason: str
    champion: str | None
    evaluation: str

    @property
    def summary(self) -> str:
        """What was registered and why, in one sentence."""
        taken = [alias for alias, version in self.aliases.items() if version == self.version]
        taken += [CHAMPION] if self.champion == self.version else []
        noun = "aliases" if len(taken) > 1 else "alias"
        aliases = f"{noun} {', '.join(taken)}" if taken else "without an alias"
        return f"{self.flavor} ({self.reason}) is models:/{self.name}/{self.version}, {aliases}"

    def check(self) -> None:
        """Raise InvalidResult unless the aliases and the champion are the same as then.

        The gate would compare with another champion's metrics; that this version became the
        champion itself changes nothing. It is also invalid if the version now has the metrics of
        another evaluation, or its model no longer exists. Raises UserError if the registry cannot
        be used.
        """
        address = f"models:/{self.name}@"
        aliases = registered_models.aliases(self.name)
        for alias, version in self.aliases.items():
            if alias not in aliases:
                raise InvalidResult(f"{address}{alias} no longer exists")
            if aliases[alias] != version:
                raise InvalidResult(f"{address}{alias} is now version {aliases[alias]}")
        champion = aliases.get(CHAMPION)
        if champion is None and self.champion is not None:
            raise InvalidResult(f"{address}{CHAMPION} no longer exists")
        if champion not in (self.champion, self.version):
            raise InvalidResult(f"{address}{CHAMPION} is now version {champion}")
        tags = registered_models.version(self.name, self.version).tags
        if registered_models.evaluation_run(tags) != self.evaluation:
            raise InvalidResult(
                f"models:/{self.name}/{self.version} now has the metrics of another evaluation"
            )
        _require_model(f"models:/{self.name}/{self.version}")


def _of_steps(kind: type[Result]) -> Iterator[type[Result]]:
    """Yield the subclasses that are results of a step."""
    for each in kind.__subclasses__():
        yield from [each] if "step" in vars(each) else _of_steps(each)


_BY_STEP = {kind.step: kind for kind in _of_steps(Result)}

FLOW: tuple[type[Result], ...] = tuple(_BY_STEP[step] for step in STEPS)
"""The results in the order in which the workflow makes them."""


def order(kind: type[Result]) -> int:
    """Return the position of a result in the workflow."""
    return FLOW.index(kind)


def _require_entry(folder: Path) -> None:
    if not folder.exists():
        raise AbsentResult(f"{folder} does not exist")
    try:
        manifests.verify(folder)
    except manifests.BrokenEntry as broken:
        raise InvalidResult(str(broken)) from broken
    manifests.touch(folder)


def _require_artifact(run_id: str, name: str) -> None:
    try:
        mlflow.artifacts.load_dict(f"runs:/{run_id}/{name}")
    except (MlflowException, OSError) as error:
        raise InvalidResult(f"the artifact {name} of run {run_id} no longer exists") from error


def _require_model(model_uri: str) -> None:
    try:
        mlflow.models.get_model_info(model_uri)
    except (MlflowException, OSError) as error:
        raise InvalidResult(f"{model_uri} no longer exists") from error
