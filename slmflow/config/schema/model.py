"""The source model: `model.*`."""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from slmflow.config.schema.adapters import AdapterMode, AdapterSource, name_problems
from slmflow.config.schema.fields import Kind, config_key
from slmflow.config.schema.pins import pin_problems, uri_problems
from slmflow.paths import PROJECT, is_file, is_folder

_LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}", re.ASCII)
# The largest chat templates on the hub have about 30 kB.
_MAX_TEMPLATE_KB = 1000


class Source(Enum):
    """Where the weights come from."""

    hub = "hub"
    bundled = "bundled"
    local = "local"
    mlflow = "mlflow"


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
    adapters: dict[str, str] = config_key(
        Kind.adapter, "a separate adapter by its name; one on the hub is owner/name@COMMIT", dict
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
            yield from uri_problems("model.uri", self.uri)
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

    @property
    def adapter_sources(self) -> dict[str, AdapterSource]:
        """The adapters by name; that of `model.adapter` has the last part of its source."""
        sources = {name: AdapterSource.named(name, text) for name, text in self.adapters.items()}
        if self.adapter is None:
            return sources
        key = "model.adapter"
        single = AdapterSource(key, self.adapter, self.adapter_revision, f"{key}_revision")
        return {single.short_name: single} | sources

    def _adapter_problems(self) -> Iterator[str]:
        if self.adapter is None and self.adapter_revision is not None:
            yield (
                f"model.adapter_revision={self.adapter_revision!r} has an effect only with "
                "model.adapter"
            )
        sources = self.adapter_sources
        for source in sources.values():
            yield from source.problems()
        if self.adapter_mode is AdapterMode.separate:
            for name in sources:
                yield from name_problems(name, self.name)
            if not sources:
                yield "model.adapter_mode=separate needs model.adapter or model.adapters.NAME"
        elif self.adapters:
            yield (
                f"model.adapters.{next(iter(self.adapters))} has an effect only with "
                "model.adapter_mode=separate: model.adapter is the one that is merged"
            )

    @property
    def folder(self) -> Path:
        """Absolute folder of a bundled or local model."""
        return PROJECT / (self.path or "")


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
