"""Every config key, with what its field declares, and the Hydra groups of `conf/`."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast, get_args, get_origin, get_type_hints

from slmflow.config.schema.config import Config
from slmflow.config.schema.fields import Kind
from slmflow.paths import CONF

_COLUMN, _VARIABLE = "<column>", "<variable>"
ANY_NAMES = (_COLUMN, _VARIABLE)
"""The parts of keys that stand for any name, as in `registry.gate.<column>.min`."""


@dataclass(frozen=True)
class Key:
    """A config key: its dotted name, its Python type, and the kind and doc it declares."""

    name: str
    type: Any
    kind: Kind
    doc: str


@functools.cache
def all_keys() -> tuple[Key, ...]:
    """Return every key, in the order of the schema."""
    return tuple(_keys_of(Config))


@functools.cache
def kinds() -> Mapping[str, Kind]:
    """Return the kind of every key that can be overridden; `ANY_NAMES` stand for any name."""
    return MappingProxyType(
        {key.name: key.kind for key in all_keys() if key.kind is not Kind.mapping}
    )


@functools.cache
def groups() -> Mapping[str, list[str]]:
    """Return the Hydra groups of `conf/`, each with its choices."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    return {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in folders}


@functools.cache
def optional_sections() -> frozenset[str]:
    """Return the sections that a file of `conf/` may set to null."""
    return frozenset(
        key.name
        for key in all_keys()
        if type(None) in get_args(key.type)
        and any(map(dataclasses.is_dataclass, get_args(key.type)))
    )


def match_pattern(name: str) -> str | None:
    """Return the key with one of `ANY_NAMES` that a name matches, if any."""
    parts = name.split(".")
    for key in kinds():
        pattern = key.split(".")
        if len(parts) == len(pattern) and not set(ANY_NAMES).isdisjoint(pattern):
            pairs = zip(parts, pattern, strict=True)
            if all(expected in (part, *ANY_NAMES) for part, expected in pairs):
                return key
    return None


def _keys_of(section: type, prefix: str = "") -> Iterator[Key]:
    types = get_type_hints(section)
    for field in dataclasses.fields(section):
        name, annotation = f"{prefix}{field.name}", types[field.name]
        parts = (annotation, *get_args(annotation))
        nested = next((part for part in parts if dataclasses.is_dataclass(part)), None)
        is_dict = get_origin(annotation) is dict
        if field.metadata:
            kind, doc = field.metadata["kind"], field.metadata["doc"]
            if is_dict and kind is not Kind.mapping:
                name, annotation = f"{name}.{_VARIABLE}", get_args(annotation)[1]
            yield Key(name, annotation, kind, doc)
        if nested is not None:
            any_name = f".{_COLUMN}" if is_dict else ""
            yield from _keys_of(cast(type, nested), f"{name}{any_name}.")
