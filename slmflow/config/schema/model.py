"""Which model: `model.*`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from omegaconf import MISSING

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
    """A hub model (`id`, `revision`) or a folder (`path`, relative to the project).

    licence: an SPDX id, or the name that the hub has for another; null is unknown. gated: whether
    its makers ask for consent before the hub hands it out.
    """

    name: str = MISSING
    source: Source = MISSING
    id: str | None = None
    revision: str | None = None
    path: str | None = None
    licence: str | None = None
    gated: bool = False

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.source is Source.hub:
            yield from pin_problems("model", self.id, self.revision)
        elif not self.path:
            yield f"model.path is missing: a {self.source.value} model is a folder"
        elif not is_folder(self.folder):
            yield f"model.path={self.path!r}: there is no folder {self.folder}"
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            yield (
                f"model.licence={self.licence!r}: give an SPDX id such as Apache-2.0, "
                "or the name that the hub has for it, such as llama3.2"
            )

    @property
    def folder(self) -> Path:
        """The absolute folder of a bundled or local model."""
        return PROJECT / (self.path or "")


def pin_problems(key: str, hub_id: str | None, revision: str | None) -> Iterator[str]:
    """Yield what is wrong with a repository of the hub at a commit, one sentence each."""
    if not _HUB_ID.fullmatch(hub_id or ""):
        yield f"{key}.id={hub_id!r} is not a hub id: give owner/name"
    if not _COMMIT.fullmatch(revision or ""):
        yield (
            f"{key}.revision={revision!r} is not a pinned revision: give the commit's "
            "40 hexadecimal digits (the hub page's 'History' shows them), not a branch"
        )
