"""The source model: `model.*`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_folder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class Source(Enum):
    """Where the weights come from."""

    hub = "hub"
    bundled = "bundled"
    local = "local"


@dataclass
class Model:
    """A hub model (`id`, `revision`) or a folder (`path`)."""

    name: str = config_key(Kind.text, "short name, used for the registered model")
    source: Source = config_key(Kind.value, "where the weights come from")
    id: str | None = config_key(Kind.text, "model on the hub, owner/name", None)
    revision: str | None = config_key(Kind.text, "its commit, 40 hexadecimal digits", None)
    path: str | None = config_key(Kind.path, "folder of a bundled or local model", None)
    licence: str | None = config_key(
        Kind.text, "SPDX id, or the hub's name for another licence; null is unknown", None
    )
    gated: bool = config_key(Kind.value, "whether the hub asks users to accept terms first", False)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.source is Source.hub:
            yield from pin_problems("model", self.id, self.revision)
        elif not self.path:
            yield f"model.path is missing: a {self.source.value} model is a folder"
        elif not is_folder(self.folder):
            yield f"model.path={self.path!r}: there is no folder {self.folder}"
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            yield (
                f"model.licence={self.licence!r}: give an SPDX id such as Apache-2.0, "
                "or the hub's name for the licence, such as llama3.2"
            )

    @property
    def folder(self) -> Path:
        """Absolute folder of a bundled or local model."""
        return PROJECT / (self.path or "")


def pin_problems(key: str, hub_id: str | None, revision: str | None) -> Iterator[str]:
    """Yield one message for an invalid hub id and one for a revision that is not a commit."""
    if not _HUB_ID.fullmatch(hub_id or ""):
        yield f"{key}.id={hub_id!r} is not a hub id: give owner/name"
    if not _COMMIT.fullmatch(revision or ""):
        yield (
            f"{key}.revision={revision!r} is not a pinned revision: give the commit's "
            "40 hexadecimal digits (the hub page's 'History' shows them), not a branch"
        )
