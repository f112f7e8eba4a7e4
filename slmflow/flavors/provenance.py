"""What a logged model carries of where it comes from: the folder `provenance/` in it.

provenance/provenance.json   the hub's id and commit, the keys, the git commit, and the manifests of
                             what the store had for it: the weights, and of GenAI the ONNX model
provenance/constraints.txt   the lock file
provenance/files.json        the sha256 of each file of the model but this one
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from slmflow.config.compose import Config
from slmflow.paths import PROJECT
from slmflow.pipeline import checksums, store
from slmflow.pipeline.results import Result, StoredResult, key_of
from slmflow.system.git_state import git_state

FOLDER = "provenance"
RECORD = f"{FOLDER}/provenance.json"
LOCK = f"{FOLDER}/constraints.txt"
FILES = f"{FOLDER}/files.json"
LOCK_FILE = PROJECT / "constraints.txt"


@dataclass(frozen=True)
class Source:
    """An entry of the store that went into a model.

    entry: `kind/key`, below the store's folder; folder: where the model has these files, None where
    it does not; files: sha256 by path.
    """

    step: str
    entry: str
    folder: str | None
    files: dict[str, str]

    @classmethod
    def of(cls, result: StoredResult, folder: str | None = None) -> Self:
        """Return the entry that is a step's result."""
        entry = result.folder
        name = f"{entry.parent.name}/{entry.name}"
        return cls(type(result).step, name, folder, store.manifest(entry))


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    step: what logged it; model: source, id and revision at the hub, licence; keys: of its
    step and all before it, by step; git_commit: 40 hexadecimal digits; git_dirty: whether the
    working tree differed from it; both None where that was not known; model_id and run_id: of the
    MLflow model that carries it and the run that logged it.
    """

    step: str
    model: dict[str, str | None]
    keys: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    sources: tuple[Source, ...]
    model_id: str = ""
    run_id: str = ""

    @classmethod
    def of(cls, kind: type[Result], config: Config, *sources: Source) -> Self:
        """Return that of the result of a step that works now."""
        model = config.model
        named = {part: getattr(model, part) for part in ("id", "revision", "licence")}
        keys = {each.step: key_of(each, config) for each in (kind, *_before(kind))}
        commit, dirty = git_state() or (None, None)
        return cls(kind.step, {**named, "source": model.source.value}, keys, commit, dirty, sources)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return what `write` made this object of. Raises TypeError or KeyError for another."""
        sources = tuple(Source(**source) for source in fields["sources"])
        return cls(**(fields | {"sources": sources}))

    def write(self, model: Path) -> None:
        """Lay the provenance into a saved model's folder, the sums of all its files last."""
        (model / FOLDER).mkdir()
        (model / RECORD).write_text(json.dumps(asdict(self), indent=1))
        shutil.copyfile(LOCK_FILE, model / LOCK)
        (model / FILES).write_text(json.dumps(checksums.of(model), indent=1))


def _before(kind: type[Result]) -> Iterator[type[Result]]:
    for consumed in kind.consumes:
        yield consumed
        yield from _before(consumed)
