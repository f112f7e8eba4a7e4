"""The source model: `model.*`."""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file, is_folder

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
# The largest chat templates on the hub have about 30 kB.
_MAX_TEMPLATE_KB = 1000
_MODEL_URI = re.compile(r"(models|runs):/[^\s?#]{1,500}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class Source(Enum):
    """Where the weights come from."""

    hub = "hub"
    bundled = "bundled"
    local = "local"
    mlflow = "mlflow"


class AdapterMode(Enum):
    """What becomes of the adapter; merge: part of the weights, separate: beside them, by name."""

    merge = "merge"
    separate = "separate"


@dataclass
class Model:
    """A hub model (`id`, `revision`), a folder (`path`) or a model in MLflow (`uri`)."""

    name: str = config_key(Kind.text, "short name, used for the registered model")
    source: Source = config_key(Kind.value, "where the weights come from")
    id: str | None = config_key(Kind.text, "model on the hub, owner/name", None)
    revision: str | None = config_key(Kind.text, "its commit, 40 hexadecimal digits", None)
    path: str | None = config_key(Kind.path, "folder of a bundled or local model", None)
    uri: str | None = config_key(
        Kind.model_uri, "transformers model in MLflow: models:/NAME/VERSION, runs:/ID/PATH", None
    )
    template: str | None = config_key(
        Kind.path, "Jinja file with a chat template, which replaces the model's own", None
    )
    adapter: str | None = config_key(
        Kind.adapter, "LoRA adapter: a folder, owner/name on the hub, or models:/NAME/VERSION", None
    )
    adapter_revision: str | None = config_key(
        Kind.text, "commit of an adapter on the hub, 40 hexadecimal digits", None
    )
    adapter_mode: AdapterMode = config_key(
        Kind.value, "merge into the weights, or keep separate, served by name", AdapterMode.merge
    )
    licence: str | None = config_key(
        Kind.text, "SPDX id, or the hub's name for another licence; null is unknown", None
    )
    gated: bool = config_key(Kind.value, "whether the hub asks users to accept terms first", False)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.uri is not None and self.source is not Source.mlflow:
            yield f"model.uri={self.uri!r} has an effect only with model=mlflow: add it"
        if self.source is Source.hub:
            yield from pin_problems("model", self.id, self.revision)
        elif self.source is Source.mlflow:
            yield from _uri_problems("model.uri", self.uri)
        elif not self.path:
            yield f"model.path is missing: a {self.source.value} model is a folder"
        elif not is_folder(self.folder):
            yield f"model.path={self.path!r}: there is no folder {self.folder}"
        yield from self._adapter_problems()
        if self.template is not None:
            yield from _template_problems(self.template)
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            yield (
                f"model.licence={self.licence!r}: give an SPDX id such as Apache-2.0, "
                "or the hub's name for the licence, such as llama3.2"
            )

    def _adapter_problems(self) -> Iterator[str]:
        key, revision_key = "model.adapter", "model.adapter_revision"
        if self.adapter_mode is AdapterMode.separate:
            yield "model.adapter_mode=separate is not supported yet: choose merge"
        if self.adapter is None:
            if self.adapter_revision is not None:
                yield f"{revision_key}={self.adapter_revision!r} has an effect only with {key}"
        elif self.adapter_revision is not None:
            yield from _id_problems(key, self.adapter)
            yield from _revision_problems(revision_key, self.adapter_revision)
        elif is_model_uri(self.adapter):
            yield from _uri_problems(key, self.adapter)
        elif not is_folder(PROJECT / self.adapter):
            yield (
                f"{key}={self.adapter!r}: there is no folder {PROJECT / self.adapter}; an adapter "
                f"of the hub also needs {revision_key}, and one in MLflow begins with models:/"
            )

    @property
    def folder(self) -> Path:
        """Absolute folder of a bundled or local model."""
        return PROJECT / (self.path or "")


def is_model_uri(text: str) -> bool:
    """Return whether a text begins as the URI of a model in MLflow does."""
    return text.startswith(("models:/", "runs:/"))


def _uri_problems(key: str, uri: str | None) -> Iterator[str]:
    """Yield a message unless a URI has the form of one of a logged or registered model."""
    if not _MODEL_URI.fullmatch(uri or ""):
        yield (
            f"{key}={uri!r} is not the URI of a model in MLflow: give models:/NAME/VERSION, "
            "models:/NAME@ALIAS, models:/m-ID or runs:/RUN_ID/PATH; a folder is "
            "model=local model.path=..."
        )


def _template_problems(name: str) -> Iterator[str]:
    """Yield a message if a file is no chat template of plausible size."""
    # Imported here, because only a template needs Jinja and MLflow.
    from mlflow.exceptions import MlflowException

    from slmflow.runtime.prompts.template import check_source

    key, file = f"model.template={name!r}", PROJECT / name
    if not is_file(file):
        yield f"{key}: there is no file {file}"
        return
    try:
        with file.open("rb") as reader:
            content = reader.read(_MAX_TEMPLATE_KB * 1000 + 1)
        if len(content) > _MAX_TEMPLATE_KB * 1000:
            yield f"{key}: {file} has more than {_MAX_TEMPLATE_KB} kB: give a chat template"
        elif content.startswith(BOM_UTF8):
            yield f"{key}: {file} begins with a byte order mark: save it without"
        elif not content.strip():
            yield f"{key}: {file} is empty: give a chat template, or null for the model's own"
        else:
            check_source(content.decode())
    except OSError as error:
        yield f"{key}: {file} cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        yield f"{key}: {file} is not UTF-8 text: {error}"
    except MlflowException as error:
        yield f"{key}: {error.message}"


def pin_problems(key: str, hub_id: str | None, revision: str | None) -> Iterator[str]:
    """Yield one message for an invalid hub id and one for a revision that is not a commit."""
    yield from _id_problems(f"{key}.id", hub_id)
    yield from _revision_problems(f"{key}.revision", revision)


def _id_problems(key: str, hub_id: str | None) -> Iterator[str]:
    if not _HUB_ID.fullmatch(hub_id or ""):
        yield f"{key}={hub_id!r} is not a hub id: give owner/name"


def _revision_problems(key: str, revision: str | None) -> Iterator[str]:
    if not _COMMIT.fullmatch(revision or ""):
        yield (
            f"{key}={revision!r} is not a pinned revision: give the commit's "
            "40 hexadecimal digits (the hub page's 'History' shows them), not a branch"
        )
