"""The weights of a snapshot folder, one tensor at a time, held against what the model expects."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open

from slmflow.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Of a mapped file every page read counts as resident memory, until the mapping is closed.
PIECE_BYTES = 64 * 2**20

_BYTES = {"F16": 2, "BF16": 2, "F32": 4}

Shape = tuple[int, ...]


class Stored(NamedTuple):
    """Where a tensor lies and what it is; dtype in the words of safetensors."""

    file: Path
    name: str
    shape: Shape
    dtype: str


class Checkpoint(Mapping[str, torch.Tensor]):
    """Tensors by their names in the model's `state_dict`, each read anew when it is asked for.

    `checkpoint[name]` is contiguous float32, whatever float the file has. No file is open before
    or after, so memory holds that one tensor and never more than `PIECE_BYTES` of the file.
    """

    def __init__(
        self,
        folder: Path,
        expected: Mapping[str, Shape],
        tied: Iterable[Collection[str]] = (),
        base: str = "",
    ) -> None:
        """Find every expected tensor in the files' headers; no weight is read.

        expected: shape of each tensor the model has; tied: groups of names that are one tensor, of
        which a file needs one, the first that it has standing for all; base: prefix that all names
        of the file may lack (transformers' `base_model_prefix`).

        Raises UserError for files that are missing, damaged or outside the folder, and with all
        names in one message for tensors that are missing, of another shape, or no plain floats.
        """
        found = _with_base(stored(folder), base)
        for group in tied:
            if source := next((found[name] for name in group if name in found), None):
                found.update(dict.fromkeys(group, source))
        _refuse_missing(folder, expected, found)
        self._stored = {name: found[name] for name in expected}
        _refuse_quantized(folder, self._stored)
        _refuse_misshapen(folder, expected, self._stored)

    @classmethod
    def of(cls, folder: Path, model: Any) -> Self:
        """Open the weights of a folder for a transformers model, which may be on the meta device.

        Raises UserError as the constructor does.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        base = model.base_model_prefix
        return cls(folder, expected, _tied(model), base if hasattr(model, base) else "")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, in the model's order."""
        return tuple(self._stored)

    def aliases(self, name: str) -> tuple[str, ...]:
        """Return all names of a tensor, itself included: more than one where it is tied."""
        return tuple(
            other for other, stored in self._stored.items() if stored == self._stored[name]
        )

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor without reading it."""
        return self._stored[name].shape

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the model's order."""
        return iter(self._stored)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        """Return whether the model has such a tensor, without reading it."""
        return name in self._stored

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor: float32, contiguous, in memory of its own."""
        stored = self._stored[name]
        whole = torch.empty(stored.shape, dtype=torch.float32)
        for part in _pieces(stored):
            with safe_open(stored.file, framework="pt") as file:
                whole[part] = file.get_slice(stored.name)[part]
        return whole


def _pieces(stored: Stored) -> list[Any]:
    """Return the indices that cut a tensor into pieces of at most `PIECE_BYTES`, by its rows."""
    size = torch.Size(stored.shape).numel() * _BYTES[stored.dtype]
    if size <= PIECE_BYTES:
        return [...]
    rows = stored.shape[0]
    step = max(1, PIECE_BYTES * rows // size)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _tied(model: Any) -> list[list[str]]:
    """Return the groups of names under which the model holds one and the same parameter."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _with_base(stored: Mapping[str, Stored], base: str) -> dict[str, Stored]:
    """Name tensors as the model does, where the file has them as its base model alone would.

    As in transformers: if no name of the file begins with the base model's, all get it.
    """
    if not base or any(name.startswith(base) for name in stored):
        return dict(stored)
    return {f"{base}.{name}": tensor for name, tensor in stored.items()}


def stored(folder: Path) -> dict[str, Stored]:
    """Return what the headers of all files say, by the names they use.

    Raises UserError for files that are missing, damaged or outside the folder.
    """
    return {found.name: found for file in _files(folder) for found in _header(file)}


def _files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError(
            f"{folder} has no weights: {WEIGHTS}, or {INDEX} and the parts it lists, must be there"
        )
    return [_part(folder, part) for part in _parts(folder / INDEX)]


def _parts(index: Path) -> list[str]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        return sorted({str(part) for part in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{index} is not an index of weights with a weight_map: get the file anew"
        ) from error


def _part(folder: Path, part: str) -> Path:
    if not part.endswith(".safetensors") or "/" in part or "\\" in part:
        raise UserError(
            f"{folder / INDEX} names {part!r}, which is not a safetensors file beside it: do not "
            "trust this model"
        )
    if not (folder / part).is_file():
        raise UserError(
            f"{folder} lacks {part}, which its {INDEX} names: choose a revision or copy that is "
            "complete"
        )
    return folder / part


def _header(file: Path) -> Iterator[Stored]:
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - the file is no mapping
                tensor = opened.get_slice(name)
                yield Stored(file, name, tuple(tensor.get_shape()), tensor.get_dtype())
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is not a whole safetensors file ({error}): get it anew (in a git clone, with "
            "`git lfs pull`)"
        ) from error


def _refuse_missing(
    folder: Path, expected: Mapping[str, Shape], stored: Mapping[str, Stored]
) -> None:
    if missing := [name for name in expected if name not in stored]:
        raise UserError(
            f"the weights in {folder} lack {_some(missing)}, of the {len(expected)} tensors that "
            "config.json asks for. See that config.json and the weights belong together, and that "
            "they are a whole causal language model, neither quantized nor an adapter"
        )


def _refuse_quantized(folder: Path, stored: Mapping[str, Stored]) -> None:
    if odd := [f"{name} ({s.dtype})" for name, s in stored.items() if s.dtype not in _BYTES]:
        raise UserError(
            f"the weights in {folder} are not all floats of 16 or 32 bits: {_some(odd)}. Choose "
            "the model's unquantized version; the target quantizes it"
        )


def _refuse_misshapen(
    folder: Path, expected: Mapping[str, Shape], stored: Mapping[str, Stored]
) -> None:
    misshapen = [
        f"{name} is {list(stored[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if stored[name].shape != shape
    ]
    if misshapen:
        raise UserError(
            f"the weights in {folder} have other shapes than config.json asks for: "
            f"{_some(misshapen)}. See that config.json and the weights belong together"
        )


def _some(items: list[str]) -> str:
    """Return the first three items, and how many more there are."""
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more
