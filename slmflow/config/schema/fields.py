"""How a section declares a config key: its kind and a line of documentation, beside its type."""

import dataclasses
from enum import Enum
from typing import Any, TypeVar, overload

from omegaconf import MISSING

T = TypeVar("T")


class Kind(Enum):
    """What a value means, where its type does not say it.

    text, path, model_uri and adapter are taken literally from the command line. A path counts in a
    result's key by the content of the file or folder, a model URI by the model it points to, an
    adapter as either of both or by its hub id, a function by the source of its module, a task by
    its name and the version of the harness.
    """

    value = "value"  # a number, a boolean or one of an enum's names
    text = "text"
    path = "path"  # relative to the project, or absolute
    model_uri = "model_uri"
    adapter = "adapter"  # a path, a model URI or a hub id
    functions = "functions"  # a list of `module:function`
    tasks = "tasks"  # a list of names of tasks of lm-evaluation-harness
    list = "list"
    mapping = "mapping"  # text by name, set in files only
    section = "section"  # an optional group of keys

    @property
    def is_literal(self) -> bool:
        """Whether the command line gives the value as it is, not as a Hydra expression."""
        return self in (Kind.text, Kind.path, Kind.model_uri, Kind.adapter)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list, in brackets even with one item."""
        return self in (Kind.list, Kind.functions, Kind.tasks)


@overload
def config_key(kind: Kind, doc: str, default: type[T]) -> T: ...


@overload
def config_key(kind: Kind, doc: str, default: T = ...) -> T: ...


def config_key(kind: Kind, doc: str, default: Any = MISSING) -> Any:
    """Declare a field of a section as a config key.

    default: a value, or the class that makes one; by default a file of `conf/` must set it.
    """
    metadata = {"kind": kind, "doc": doc}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
