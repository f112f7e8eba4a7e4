"""A model or dataset repository on the hub, pinned to a commit."""

import re
from dataclasses import dataclass
from typing import Literal

from huggingface_hub import constants


@dataclass(frozen=True)
class Repository:
    """A repository at a commit.

    config_section: the part of the config that names it; offline_advice: what to do without the
    hub, for error messages.
    """

    kind: Literal["model", "dataset"]
    id: str
    revision: str
    config_section: str
    offline_advice: str

    @property
    def name(self) -> str:
        """The name in messages, e.g. `model.id='owner/name'`."""
        return f"{self.config_section}.id={self.id!r}"

    @property
    def pin(self) -> str:
        """The revision in messages, e.g. `model.revision='1f0c...'`."""
        return f"{self.config_section}.revision={self.revision!r}"

    @property
    def page(self) -> str:
        """The URL of its page."""
        return f"{hub_url()}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"

    @property
    def missing_commit(self) -> str:
        """The error message for a revision that is not a commit of the repository."""
        return f"{self.pin}: {self.name} has no such commit: copy one from {self.page}/commits/main"


@dataclass(frozen=True)
class AdapterRepository(Repository):
    """The repository of an adapter; `config_section` is the key that names it.

    revision_key: the config key with the commit.
    """

    revision_key: str

    @property
    def name(self) -> str:
        """The name in messages, e.g. `model.adapter='owner/name'`."""
        return f"{self.config_section}={self.id!r}"

    @property
    def pin(self) -> str:
        """The revision in messages."""
        return f"{self.revision_key}={self.revision!r}"


def hub_url() -> str:
    """Return the hub's URL without the user and password that HF_ENDPOINT may contain."""
    return re.sub(r"//.*@", "//", constants.ENDPOINT)
