"""The entries of the config reference, from the typed schema and `conf/`."""

import dataclasses
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from omegaconf import OmegaConf

from slmflow.config.compose import compose, flatten
from slmflow.config.config_keys import all_keys, groups
from slmflow.config.schema.config import Config
from slmflow.config.schema.fields import Kind
from slmflow.paths import CONF


@dataclass(frozen=True)
class Group:
    """A Hydra group: its default choice, and all choices, each a file of `conf/`."""

    name: str
    default: str
    choices: tuple[str, ...]
    doc: str


@dataclass(frozen=True)
class Entry:
    """A config key: its type such as `int or null`, its value in a run without overrides.

    default: None where the default choices of the groups set no value.
    choices: the names of an enum, else empty.
    """

    name: str
    type: str
    default: Any
    choices: tuple[str, ...]
    kind: Kind
    doc: str


def group_entries() -> list[Group]:
    """Return the Hydra groups in alphabetical order."""
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    defaults: dict[str, str] = {}
    for default in OmegaConf.load(CONF / "config.yaml").defaults:
        if isinstance(default, str):
            continue  # the schema, and Hydra's `_self_`
        defaults |= {str(name): choice for name, choice in default.items()}
    return [
        Group(name, defaults[name], tuple(choices), str(sections[name].__doc__).splitlines()[0])
        for name, choices in groups().items()
    ]


def key_entries() -> list[Entry]:
    """Return all other keys in the order of the schema."""
    defaults = flatten(compose([]))
    entries = []
    for key in all_keys():
        members = _members(key.type)
        type_name = " or ".join(_type_name(member) for member in members)
        choices = tuple(choice.name for member in members if _is_enum(member) for choice in member)
        default = defaults.get(key.name)
        entries.append(Entry(key.name, type_name, default, choices, key.kind, key.doc))
    return entries


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other type is its only one."""
    is_union = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _type_name(annotation: Any) -> str:
    if annotation is Any:
        return "any"
    if annotation is NoneType:
        return "null"
    if _is_enum(annotation):
        return "choice"
    if dataclasses.is_dataclass(annotation):
        return "section"
    return str(annotation) if get_origin(annotation) else str(annotation.__name__)
