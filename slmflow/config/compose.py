"""Composition of `conf/` into the typed config.

`load(["model=tiny_phi3", "generation.temperature=0.2"])` composes `conf/` with Hydra, merges it
into the dataclasses of `schema`, which refuse unknown keys and wrong types, and validates the
values. One message names all problems.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slmflow.config.config_keys import groups, match_pattern, optional_sections
from slmflow.config.overrides import for_hydra
from slmflow.config.schema.adapters import AdapterSource
from slmflow.config.schema.config import Config
from slmflow.errors import BadArguments
from slmflow.paths import CONF

# OmegaConf's message for a value of the wrong type, and what to give instead.
_WRONG_TYPE = re.compile(
    r"Value '(?P<value>.*)' (of type '\w+' could not be converted to|is not a valid) "
    r"(?P<kind>Float|Integer|bool)"
)
_CATALOG_NAME = re.compile(r"[^\W\d][\w-]*(\.[^\W\d][\w-]*){2}")  # catalog.schema.model
_EXPECTED = {"Float": "a number", "Integer": "a whole number", "bool": "true or false"}


def _slug(text: str | None) -> str:
    """Return the last part of a hub id or path in characters a registered name may have."""
    return re.sub(r"[^\w.-]+", "-", Path(text or "unnamed").name, flags=re.ASCII)


def _model_name(model_uri: str | None) -> str:
    """Return a name for the model at an MLflow URI.

    It is the registered name, without catalog and schema. A logged model is named by its id, and a
    run's model by its path and the start of the run's id: one name is one model.
    """
    uri = urlsplit(model_uri or "")
    first, *others = [part for part in uri.path.split("/") if part] or ["unnamed"]
    if uri.scheme == "runs":
        return _slug("-".join([*others, first[:8]]))
    name = first.partition("@")[0]
    return _slug(name.rpartition(".")[2] if _CATALOG_NAME.fullmatch(name) else name)


def _adapter_suffix(adapter: str | None, separate: Mapping[str, str]) -> str:
    """Return what tells a model with adapters from its base model: `-` and each adapter's name.

    The name of `model.adapter` is the last part of its source.
    """
    key = "model.adapter"
    single = [AdapterSource(key, adapter, None, key).short_name] if adapter else []
    return "".join(f"-{name}" for name in [*single, *sorted(separate)])


OmegaConf.register_new_resolver("adapter_suffix", _adapter_suffix, replace=True)
OmegaConf.register_new_resolver("slug", _slug, replace=True)
OmegaConf.register_new_resolver("model_name", _model_name, replace=True)
ConfigStore.instance().store(name="schema", node=Config)


def load(overrides: Sequence[str]) -> Config:
    """Compose `conf/` with Hydra overrides such as `target=cpu_int8`, and validate the values.

    Raises BadArguments, with every problem in one message.
    """
    config = compose(overrides)
    if problems := list(config.problems()):
        raise BadArguments("\n".join(problems))
    return config


def compose(overrides: Sequence[str]) -> Config:
    """Compose `conf/` as `load` does, without validating the values.

    Raises BadArguments, with every problem in one message, for an unknown key or choice and for a
    value of the wrong type.
    """
    try:
        return cast(Config, OmegaConf.to_object(_compose_files(tuple(overrides))))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadArguments(_root_message(error)) from error


def to_dict(config: Config, swept: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the config as nested dicts of strings, numbers, lists and None.

    swept: the keys of a sweep, each with the text of all its values, which replaces the value.
    """
    nested = _plain(config)
    if swept:
        untyped = OmegaConf.create(nested)
        for key, text in swept.items():
            OmegaConf.update(untyped, key, text, merge=False)
        nested = OmegaConf.to_container(untyped)
    return cast(dict[str, Any], nested)


def _plain(value: Any) -> Any:
    """Return a value of the config without dataclasses and enums; OmegaConf takes far longer."""
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.name if isinstance(value, Enum) else value


def flatten(config: Config, swept: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return `to_dict` with one entry per value: `{"generation.temperature": 0.2, ...}`.

    A key that stands for any value, such as a template variable, may have a list or a dict.
    """
    return flatten_dict(to_dict(config, swept))


def flatten_dict(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested sections of a config with one entry per value, as `flatten` does."""
    return dict(_flat_items("", dict(nested)))


def _refuse_missing_sections(overrides: Sequence[str]) -> None:
    """Raise BadArguments for a key of a section that the chosen files set to null."""
    pairs = [override.split("=", 1) for override in overrides]
    optional = tuple(f"{each}." for each in optional_sections())
    keys = [(_section(key, value), key, value) for key, value in pairs]
    keys = [each for each in keys if f"{each[0]}.".startswith(optional)]
    if not keys:
        return  # to compose with Hydra's own config takes long
    choices = [f"{key}={choice}" for key, choice in pairs if key in groups()]
    composed = _compose_choices(tuple(choices))
    problems = []
    for section, key, value in keys:
        if OmegaConf.select(composed, section, default={}) is None:
            group = section.partition(".")[0]
            choice = composed.hydra.runtime.choices[group]
            problems.append(
                f"{key}={value}: {group}={choice} has no {section}; choose "
                f"another {group}, or leave {key} out"
            )
    if problems:
        raise BadArguments("\n".join(problems))


def _section(key: str, value: str) -> str:
    """Return the section that an override changes."""
    return key if value.startswith("{") else key.rpartition(".")[0]


@functools.lru_cache(maxsize=64)
def _compose_files(overrides: tuple[str, ...]) -> DictConfig:
    """Compose the files with overrides. A sweep, and all steps of a process, ask for some again."""
    hydra_overrides = for_hydra(overrides)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        _refuse_missing_sections(overrides)
        return hydra.compose("config", hydra_overrides)


@functools.cache
def _compose_choices(choices: tuple[str, ...]) -> DictConfig:
    """Compose the chosen files, with Hydra's own config, inside `initialize_config_dir`."""
    return hydra.compose("config", list(choices), return_hydra_config=True)


def _flat_items(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or match_pattern(prefix):
        yield prefix, value
        return
    for key, child in value.items():
        yield from _flat_items(f"{prefix}.{key}" if prefix else key, child)


def _root_message(error: Exception) -> str:
    """Return the message of the first cause of a Hydra or OmegaConf error, with its key."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    text = str(getattr(cause, "msg", None) or cause).splitlines()[0]
    if key and (wrong := _WRONG_TYPE.match(text)):
        value, kind = wrong["value"], wrong["kind"]
        return f"{key}={value[:100]}: must be {_EXPECTED[kind]}"
    return f"{key}: {text}" if key and key not in text else text
