"""A checkpoint that somebody logged to MLflow with the transformers flavor.

MLflow saves the model in one folder, and the tokenizer with its chat template in another. A model
that was logged from a folder has a copy of that folder, tokenizer included. A model that was logged
with `save_pretrained=False` has no weights, but names a commit on the hub. So does an adapter
(PEFT) whose base model is from the hub; MLflow saves any other base model with it.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlflow.exceptions import MlflowException
from mlflow.models import Model as LoggedModel
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.checkpoints import files, hub_model
from slmflow.checkpoints.local_folder import SelectNames
from slmflow.config.schema.pins import pin_problems
from slmflow.console import progress_bars
from slmflow.errors import UserError
from slmflow.hub.repository import Repository
from slmflow.pipeline import model_uris, store

_KEY = "model.uri"
_FLAVOR, _TASK = "transformers", "text-generation"
_TOKENIZER_FOLDER = "components/tokenizer"
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)

# The fields of the transformers flavor in MLmodel.
_WEIGHTS_FOLDER = "model_binary"
_HUB_ID, _HUB_REVISION = "source_model_name", "source_model_revision"
_LOCAL_BASE, _ADAPTER = "local_base_model_path", "peft_adaptor"

# What MLflow applies to each request.
_REQUEST_SETTINGS = (
    *("prompt_template", "max_new_tokens", "temperature", "top_p", "top_k"),
    *("repetition_penalty", "do_sample"),
)


@dataclass(frozen=True)
class RegistryModel:
    """A model of the transformers flavor; its files are not read yet.

    name: in messages, `model.uri='models:/my-finetuned/3'`; fields: those of the flavor; unused:
    the names of what MLflow applies to each request and the converted model does not.
    """

    uri: str
    name: str
    fields: Mapping[str, Any]
    unused: Sequence[str]

    @classmethod
    def read(cls, uri: str) -> Self:
        """Read the metadata of a model. Raises UserError for one that is no language model."""
        name = f"{_KEY}={uri!r}"
        metadata = model_uris.load_metadata(_KEY, uri)
        _check_flavor(metadata, name)
        model = cls(uri, name, metadata.flavors[_FLAVOR], _request_settings(metadata))
        model._check_task()
        return model

    @property
    def has_adapter(self) -> bool:
        """Whether the model is an adapter (PEFT) of a base model; `download_adapter` gets it."""
        return bool(self.fields.get(_ADAPTER))

    @property
    def base(self) -> Repository | None:
        """The repository on the hub that has the weights; None if the model itself has them.

        The weights are those of the base model if there is an adapter.

        Raises UserError if the model names no commit.
        """
        if self.fields.get(_WEIGHTS_FOLDER):
            return None
        if path := self.fields.get(_LOCAL_BASE):
            with_adapter = f" model.adapter={self.uri}" * self.has_adapter
            raise UserError(
                f"{self.name} has no weights but names the folder {path!r} of the machine that "
                "logged it: log it again with its weights, or use model=local model.path=FOLDER"
                + with_adapter
            )
        hub_id, revision = self.fields.get(_HUB_ID), self.fields.get(_HUB_REVISION)
        if problems := list(pin_problems("source_model", _text(hub_id), _text(revision))):
            raise UserError(
                f"{self.name} has no weights ({self._reason}) and names no commit on the hub that "
                f"has them ({'; '.join(problems)}): log it again with its weights, or call "
                "mlflow.transformers.persist_pretrained_model"
            )
        tokenizer = self.fields.get("tokenizer_name"), self.fields.get("tokenizer_revision")
        if tokenizer not in ((hub_id, revision), (None, None)):
            raise UserError(
                f"{self.name} has its weights from {hub_id} at {revision}, but its tokenizer from "
                f"{' at '.join(map(str, tokenizer))}: log it again with save_pretrained=True"
            )
        return hub_model.repository(str(hub_id), str(revision))

    def download(self, target: Path) -> None:
        """Download the checkpoint's files. Raises UserError if they are not a checkpoint."""
        if (base := self.base) is not None:
            hub_model.download(base, target)
            return
        artifacts = _Artifacts(self.uri, self.name)
        found = self._checkpoint_files(artifacts)
        names = files.select(found, self.name)
        artifacts.download({name: found[name] for name in names}, target)

    def download_config(self, target: Path) -> None:
        """Download config.json alone. Raises UserError if the files are not a checkpoint."""
        if (base := self.base) is not None:
            hub_model.download_config(base, target)
            return
        artifacts = _Artifacts(self.uri, self.name)
        found = self._checkpoint_files(artifacts)
        files.select(found, self.name)  # all that is missing is reported at once
        artifacts.download({files.CONFIG: found[files.CONFIG]}, target)

    def _checkpoint_files(self, artifacts: "_Artifacts") -> dict[str, "_File"]:
        """Return the files beside the weights, and those of the tokenizer if it is elsewhere."""
        folder = str(self.fields[_WEIGHTS_FOLDER])
        if not _PLAIN_NAME.fullmatch(folder):
            raise UserError(
                f"{self.name}: its {_WEIGHTS_FOLDER} {folder!r} is not the name of a folder: do "
                "not trust this model"
            )
        found = artifacts.list(folder)
        if files.has_tokenizer(found):
            return found
        return artifacts.list(_TOKENIZER_FOLDER) | found

    @property
    def _reason(self) -> str:
        """Why MLflow saved no weights."""
        if self.has_adapter:
            return "it is an adapter"
        return "it was logged with save_pretrained=False"

    def _check_task(self) -> None:
        if (task := self.fields.get("task")) != _TASK:
            raise UserError(
                f"{self.name} is a pipeline for the task {task!r}: only {_TASK} (and llm/v1/chat, "
                "which is based on it) can be converted; choose such a model"
            )


def download_adapter(key: str, uri: str, select: SelectNames, target: Path) -> None:
    """Download the adapter (PEFT) of a logged model, without its base model.

    key: the config key with the URI, for messages; select: of the adapter's file names. Raises
    UserError for a model without an adapter.
    """
    name = f"{key}={uri!r}"
    fields = model_uris.load_metadata(key, uri).flavors.get(_FLAVOR) or {}
    folder = fields.get(_ADAPTER)
    if not isinstance(folder, str) or not _PLAIN_NAME.fullmatch(folder):
        raise UserError(
            f"{name} has no adapter (PEFT): give a model that MLflow's transformers flavor logged "
            "from a PeftModel"
        )
    artifacts = _Artifacts(uri, name)
    found = artifacts.list(folder)
    artifacts.download({each: found[each] for each in select(found, name)}, target)


@dataclass(frozen=True)
class _File:
    """An artifact; size: in bytes, as the server lists it."""

    path: str
    size: int


class _Artifacts:
    """The files of a logged model, read with MLflow's client."""

    def __init__(self, uri: str, name: str) -> None:
        self._name = name
        with _explain_errors(name):
            self._repository = model_uris.artifact_repository(uri)

    def list(self, folder: str) -> dict[str, _File]:
        """Return the files of a folder and of its folder of chat templates, by relative name."""
        with _explain_errors(self._name):
            listed = [
                *self._repository.list_artifacts(folder),
                *self._repository.list_artifacts(f"{folder}/{files.TEMPLATES_FOLDER}"),
            ]
        prefix = f"{folder}/"
        return {
            each.path.removeprefix(prefix): _File(each.path, each.file_size or 0)
            for each in listed
            if not each.is_dir and each.path.startswith(prefix)
        }

    def download(self, wanted: Mapping[str, _File], target: Path) -> None:
        """Download files to a folder, by name. Raises UserError for sizes beyond the limits."""
        sizes = {name: file.size for name, file in wanted.items()}
        files.check_sizes(sizes, self._name)
        total = sum(sizes.values())
        store.require_free_space(total, self._name, target)
        with progress_bars.byte_bar() as progress:
            task = progress.add_task(self._name, total=total)
            for name, file in wanted.items():
                (target / name).parent.mkdir(exist_ok=True)
                with _explain_errors(self._name):
                    self._get(file, target / name)
                progress.advance(task, file.size)
        files.check_sizes({name: (target / name).stat().st_size for name in wanted}, self._name)

    def _get(self, file: _File, target: Path) -> None:
        if isinstance(self._repository, LocalArtifactRepository):
            folder = Path(self._repository.artifact_dir).resolve()
            path = (folder / file.path).resolve()
            if not path.is_relative_to(folder):
                raise UserError(
                    f"{file.path} of {self._name} points to {path}, which is outside of the "
                    "model's folder: do not trust this model, or log it again without links"
                )
            shutil.copyfile(path, target)
            return
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            Path(self._repository.download_artifacts(file.path, scratch)).rename(target)


@contextmanager
def _explain_errors(name: str) -> Iterator[None]:
    """Raise UserError for an error of MLflow's client."""
    try:
        yield
    except (MlflowException, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise UserError(
            f"the files of {name} cannot be read ({reason}): check the artifact store of the "
            "tracking server, and your rights there"
        ) from error


def _check_flavor(metadata: LoggedModel, name: str) -> None:
    """Raise UserError for a model without the transformers flavor."""
    if _FLAVOR in metadata.flavors:
        return
    flavors = sorted(metadata.flavors.keys() - {"python_function"}) or ["pyfunc"]
    raise UserError(
        f"{name} has the flavor {', '.join(flavors)}, from which no weights can be taken: give a "
        "model that was logged with mlflow.transformers.log_model"
    )


def _request_settings(metadata: LoggedModel) -> list[str]:
    """Return the names of the prompt template and the options that a model was logged with."""
    options = metadata.flavors.get("python_function", {}).get("config")
    names = [*(metadata.metadata or {}), *(options if isinstance(options, dict) else {})]
    return [name for name in map(str, names) if name in _REQUEST_SETTINGS]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
