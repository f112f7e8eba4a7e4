"""The typed config: what `conf/` may hold, and how it is composed.

`load(["model=tiny_phi3", "generation.temperature=0.2"])` composes `conf/` with Hydra, merges it
into the dataclasses of `schema` (so an unknown key or a wrong type cannot pass) and checks what
types cannot say. All problems are gathered into one message.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slmflow.config import overrides as command_line
from slmflow.config.schema.batch import Batch, Spark
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.config.schema.generation import Generation, LogGenai
from slmflow.config.schema.model import Model
from slmflow.config.schema.registry import Registry
from slmflow.config.schema.serving import Serve
from slmflow.config.schema.sweep import Sweep
from slmflow.config.schema.target import Exporter, ExporterName, Target
from slmflow.config.schema.verification import Verify
from slmflow.errors import BadArguments
from slmflow.paths import CONF

# Paths, relative to the project: what they point to can change under the same name.
PATHS = frozenset({"model.path", "evaluation.data", "evaluation.examples"})

# Addresses of MLflow models: an alias can come to point to another one.
ADDRESSES = frozenset({"evaluation.model_uri"})

# Functions, `module:function`: the code of their modules can change under the same name.
FUNCTIONS = frozenset({"evaluation.metrics"})

# Keys that take a text as it is written: a comma or a brace in it means nothing to Hydra.
TEXTS = frozenset(
    {
        "evaluation.system",
        "evaluation.template",
        "sweep.objective",
        "sweep.front",
        "sweep.constraints",
        "batch.input",
        "batch.output",
        "spark.master",
    }
)

# Keys that take a list, in brackets also where it has one item.
LISTS = frozenset({"target.quantization.eight_bit", "evaluation.metrics"})


@dataclass
class Config:
    """Everything a run is made of; each Hydra group of `conf/` fills the field of its name."""

    model: Model = field(default_factory=Model)
    target: Target = field(default_factory=Target)
    exporter: Exporter = field(default_factory=Exporter)
    generation: Generation = field(default_factory=Generation)
    evaluation: EvaluationData = field(default_factory=EvaluationData)
    registry: Registry = field(default_factory=Registry)
    log_genai: LogGenai = field(default_factory=LogGenai)
    serve: Serve = field(default_factory=Serve)
    verify: Verify = field(default_factory=Verify)
    sweep: Sweep = field(default_factory=Sweep)
    batch: Batch = field(default_factory=Batch)
    spark: Spark = field(default_factory=Spark)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        checked = (self.model, self.target, self.generation, self.evaluation, self.registry)
        for section in (*checked, self.serve, self.verify, self.sweep, self.batch, self.spark):
            yield from section.problems()
        if self.exporter.name is ExporterName.builder and self.target.quantization is not None:
            yield from self.target.quantization.builder_problems()


def _slug(text: str | None) -> str:
    """Return the last part of a hub id or path in characters a registered name may have."""
    return re.sub(r"[^\w.-]+", "-", Path(text or "unnamed").name, flags=re.ASCII)


OmegaConf.register_new_resolver("slug", _slug, replace=True)
ConfigStore.instance().store(name="schema", node=Config)


def load(overrides: Sequence[str]) -> Config:
    """Compose `conf/` with Hydra overrides such as `target=cpu_int8` into a checked `Config`.

    Raises BadArguments, with every problem in one message, for a key, choice or value that is
    unknown or cannot be used.
    """
    taken = for_hydra(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            _refuse_below_null(overrides)
            config = cast(Config, OmegaConf.to_object(compose("config", taken)))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadArguments(_reason(error)) from error
    if problems := list(config.problems()):
        raise BadArguments("\n".join(problems))
    return config


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """Return overrides as Hydra takes them.

    Raises BadArguments, with every problem in one message, for a key or choice that is unknown.
    """
    keys = list(_keys(Config))
    command_line.check(overrides, groups(), keys, LISTS)
    return command_line.for_hydra(overrides, keys)


def _refuse_below_null(overrides: Sequence[str]) -> None:
    """Raise BadArguments where a key is set of what the chosen files leave out."""
    given = [override.split("=", 1) for override in overrides]
    choices = [f"{key}={choice}" for key, choice in given if key in groups()]
    chosen = _composed(tuple(choices))
    problems = []
    for key, value in given:
        section = key if value.startswith("{") else key.rpartition(".")[0]
        if section and OmegaConf.select(chosen, section, default={}) is None:
            group = section.partition(".")[0]
            choice = chosen.hydra.runtime.choices[group]
            problems.append(
                f"{key}={value}: {group}={choice} has no {section}; choose "
                f"another {group}, or leave {key} out"
            )
    if problems:
        raise BadArguments("\n".join(problems))


@functools.cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Return what the chosen files make, and Hydra's own config; `initialize_config_dir` holds."""
    return compose("config", list(choices), return_hydra_config=True)


def groups() -> dict[str, list[str]]:
    """Return the Hydra groups of `conf/`, each with its choices."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    return {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in folders}


def plain(config: Config, several: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the config as nested dicts of strings, numbers, lists and None.

    several: keys of a sweep, each with its values as text, which stands in place of a value.
    """
    nested = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    if several:
        untyped = OmegaConf.create(nested)
        for key, text in several.items():
            OmegaConf.update(untyped, key, text, merge=False)
        nested = OmegaConf.to_container(untyped)
    return cast(dict[str, Any], nested)


def leaves(config: Config, several: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return every value under its Hydra name: `{"generation.temperature": 0.2, ...}`.

    several: as in `plain`.
    """
    return dict(_flatten("", plain(config, several)))


def _keys(section: type, prefix: str = "") -> Iterator[str]:
    """Yield the names of everything below a dataclass that may be set.

    Where a dict may hold any name, `overrides.ANY_NAME` stands for it.
    """
    for name, kind in get_type_hints(section).items():
        nested = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
        named = get_origin(kind) is dict
        if nested is not kind and not named:
            yield prefix + name
        if nested is not None:
            below = f"{name}.{command_line.ANY_NAME}" if named else name
            yield from _keys(cast(type, nested), f"{prefix}{below}.")


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, child in value.items():
        yield from _flatten(f"{prefix}.{key}" if prefix else key, child)


def _reason(error: Exception) -> str:
    """Return the innermost message of a Hydra or OmegaConf error, with the key it is about."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    text = str(getattr(cause, "msg", None) or cause).splitlines()[0]
    return f"{key}: {text}" if key and key not in text else text
