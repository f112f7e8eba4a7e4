"""The provenance of a logged model: the folder `provenance/` inside it.

provenance/provenance.json   hub id and commit, step keys, git commit, and the manifests of the
                             store entries it was made from (weights, for genai also ONNX model)
provenance/constraints.txt   the project's lock file
provenance/files.json        sha256 of every other file of the model
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from slmflow.config.schema.config import Config
from slmflow.config.schema.model import Model
from slmflow.flavors import lineage
from slmflow.paths import PROJECT
from slmflow.pipeline import checksums, digests, manifests, store
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Result, StoredResult, Weights
from slmflow.system.git_state import read_git_state

FOLDER = "provenance"
PROVENANCE_FILE = f"{FOLDER}/provenance.json"
CONSTRAINTS_FILE = f"{FOLDER}/constraints.txt"
CHECKSUMS_FILE = f"{FOLDER}/files.json"
PROJECT_CONSTRAINTS = PROJECT / "constraints.txt"


@dataclass(frozen=True)
class SourceEntry:
    """A store entry that a model was made from.

    entry: `kind/key`, relative to the store; folder: where the model has a copy of the entry's
    files, or None; files: sha256 by path.
    """

    step: str
    entry: str
    folder: str | None
    files: dict[str, str]

    @classmethod
    def from_result(cls, result: StoredResult, folder: str | None = None) -> Self:
        """Return the store entry of a step's result."""
        entry = result.folder
        name = f"{entry.parent.name}/{entry.name}"
        return cls(type(result).step, name, folder, manifests.checksums(entry))

    @classmethod
    def of_weights(cls, weights: Weights, folder: str | None = None) -> list[Self]:
        """Return the entries of the weights and of their adapter, which has no copy."""
        entries = [cls.from_result(weights, folder)]
        if weights.adapter is not None and weights.adapter_folder is not None:
            sums = manifests.checksums(weights.adapter_folder)
            entries.append(cls(Weights.step, weights.adapter, None, sums))
        return entries

    def unchanged_copies(self, model: Path) -> Iterator[tuple[str, str]]:
        """Yield path and sha256 of the large files of a model that are copies of the entry's.

        MLflow copies a file with its modification time; what changes the copy changes that.
        """
        if self.folder is None:
            return
        for path, digest in self.files.items():
            copied = model / self.folder / path
            with suppress(OSError):
                copy, original = copied.stat(), (store.home() / self.entry / path).stat()
                is_same = (copy.st_size, copy.st_mtime_ns) == (
                    original.st_size,
                    original.st_mtime_ns,
                )
                if is_same and copy.st_size >= digests.LARGE_BYTES:
                    yield f"{self.folder}/{path}", digest


@dataclass(frozen=True)
class Provenance:
    """How a model was made.

    step: the step that logged it; model: source, hub id, revision, licence, the sha256 of the file
    of `model.template`, and what `lineage.origin` returns; keys: by step, of this step and all
    before it; git_commit: 40 hexadecimal digits; git_dirty: whether the working
    tree differed from the commit; both are None if unknown; model_id, run_id: the MLflow model
    that contains the provenance and the run that logged it.
    """

    step: str
    model: dict[str, str | None]
    keys: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    sources: tuple[SourceEntry, ...]
    model_id: str = ""
    run_id: str = ""

    @classmethod
    def collect(cls, kind: type[Result], config: Config, *sources: SourceEntry) -> Self:
        """Collect the provenance of a result of type `kind` that the running step makes."""
        model = config.model
        origin = {field: getattr(model, field) for field in ("id", "revision", "licence")}
        for name, source in model.adapter_sources.items():
            at = f"@{source.revision}" if source.revision else ""
            origin[f"adapter.{name}"] = f"{source.source}{at}"
        keys = {each.step: key_of(each, config) for each in (kind, *_upstream(kind))}
        commit, dirty = read_git_state() or (None, None)
        origin |= {"source": model.source.value, "template_sha256": _template_sha256(model)}
        origin |= lineage.origin(model)
        return cls(kind.step, origin, keys, commit, dirty, sources)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Parse the content of provenance.json. Raises TypeError or KeyError if it is invalid."""
        sources = tuple(SourceEntry(**source) for source in fields["sources"])
        return cls(**(fields | {"sources": sources}))

    def write(self, model: Path) -> None:
        """Write the folder into a saved model; files.json last, as it covers the other two."""
        (model / FOLDER).mkdir()
        (model / PROVENANCE_FILE).write_text(json.dumps(asdict(self), indent=1))
        shutil.copyfile(PROJECT_CONSTRAINTS, model / CONSTRAINTS_FILE)
        known = dict(copy for source in self.sources for copy in source.unchanged_copies(model))
        sums = checksums.compute(model, known)
        (model / CHECKSUMS_FILE).write_text(json.dumps(sums, indent=1))


def _template_sha256(model: Model) -> str | None:
    return None if model.template is None else digests.sha256(PROJECT / model.template)


def _upstream(kind: type[Result]) -> Iterator[type[Result]]:
    for consumed in kind.consumes:
        yield consumed
        yield from _upstream(consumed)
