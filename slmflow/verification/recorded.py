"""What a model carries of where it comes from, read from files that anyone may have altered."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slmflow.errors import UserError
from slmflow.flavors.provenance import FILES, RECORD, Provenance
from slmflow.pipeline import checksums

_SUM = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENTRY = re.compile(r"[a-z]+/[0-9a-f]{64}")


@dataclass(frozen=True)
class Carried:
    """A model's folder, the sums of its files as recorded and as they are, and its provenance.

    provenance: None where it cannot be read any more.
    """

    folder: Path
    recorded: dict[str, str]
    found: dict[str, str]
    provenance: Provenance | None

    @classmethod
    def read(cls, folder: Path, address: str) -> Self:
        """Return what the model in a folder carries. Raises UserError where that is nothing."""
        try:
            recorded = json.loads((folder / FILES).read_bytes())
            if not _are_sums(recorded):
                raise ValueError("these are no sums of files")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{address} has no {FILES} that can be read ({error}): an older slmflow or another "
                "program has logged it, or the file was altered; log the model anew"
            ) from error
        found = checksums.of(folder)
        del found[FILES]
        return cls(folder, recorded, found, _provenance(folder))

    @property
    def model_id(self) -> str:
        """The id under which it was logged, empty where that is not known any more."""
        return self.provenance.model_id if self.provenance else ""


def _provenance(folder: Path) -> Provenance | None:
    try:
        provenance = Provenance.from_json(json.loads((folder / RECORD).read_bytes()))
        return provenance if _is_sound(provenance) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _is_sound(provenance: Provenance) -> bool:
    commit = provenance.git_commit
    return (
        provenance.step in provenance.keys
        and _are_sums(provenance.keys)
        and (commit is None or _COMMIT.fullmatch(commit) is not None)
        and all(
            _are_sums(each.files) and _ENTRY.fullmatch(each.entry) for each in provenance.sources
        )
    )


def _are_sums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) and (each == checksums.LINK or _SUM.fullmatch(each))
        for each in value.values()
    )
