"""The checksums and the provenance that a model contains. They may have been altered."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slmflow.errors import UserError
from slmflow.flavors.provenance import CHECKSUMS_FILE, PROVENANCE_FILE, Provenance
from slmflow.pipeline import checksums

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENTRY = re.compile(r"[a-z]+/[0-9a-f]{64}")


@dataclass(frozen=True)
class RecordedModel:
    """A model's folder and what it contains about itself.

    recorded: the checksums of its files when it was logged; actual: their checksums now;
    provenance: None if it is unreadable.
    """

    folder: Path
    recorded: dict[str, str]
    actual: dict[str, str]
    provenance: Provenance | None

    @classmethod
    def read(cls, folder: Path, model_uri: str) -> Self:
        """Read the records in a model's folder. Raises UserError if it has no checksums."""
        try:
            recorded = json.loads((folder / CHECKSUMS_FILE).read_bytes())
            if not _are_checksums(recorded):
                raise ValueError("it holds no checksums")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{model_uri} has no readable {CHECKSUMS_FILE} ({error}): it was logged by an "
                "older slmflow or another program, or the file was altered; log the model again"
            ) from error
        actual = checksums.compute(folder)
        del actual[CHECKSUMS_FILE]
        return cls(folder, recorded, actual, _read_provenance(folder))

    @property
    def model_id(self) -> str:
        """The id of the logged model; empty if it is unknown."""
        return self.provenance.model_id if self.provenance else ""


def _read_provenance(folder: Path) -> Provenance | None:
    try:
        provenance = Provenance.from_json(json.loads((folder / PROVENANCE_FILE).read_bytes()))
        return provenance if _is_valid(provenance) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_valid(provenance: Provenance) -> bool:
    commit = provenance.git_commit
    return (
        provenance.step in provenance.keys
        and _are_checksums(provenance.keys)
        and (commit is None or _COMMIT.fullmatch(commit) is not None)
        and all(
            _are_checksums(source.files) and _ENTRY.fullmatch(source.entry)
            for source in provenance.sources
        )
    )


def _are_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) and (each == checksums.LINK or _SHA256.fullmatch(each))
        for each in value.values()
    )
