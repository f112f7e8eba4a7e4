"""What calibration has finished, kept on disk so that a killed conversion continues there."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from slmflow.conversion.quantization.blockwise import CodedScales, QuantizedWeight
from slmflow.conversion.quantization.schemes import Scheme

_ZERO_POINTS, _CODES, _ROWS, _SCALES = "zero_points", "codes", "rows", "scales"


class Workspace:
    """A folder with quantized weights in groups, and tensors by name.

    A file appears when it is complete.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder, or continue with what a killed process has left there.

        Files that a crash of the machine has damaged are removed.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.safetensors"):
            if not _is_complete(file):
                file.unlink()

    def has(self, name: str) -> bool:
        """Return whether tensors or a group of weights of this name are complete."""
        return self._file(name).exists()

    def save(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors under a name."""
        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        self._write(name, lambda file: save_tensors(contiguous, file))

    def load(self, name: str) -> dict[str, torch.Tensor]:
        """Read the tensors of a name."""
        return load_tensors(self._file(name))

    def save_weights(self, group: str, weights: Mapping[str, QuantizedWeight]) -> None:
        """Write a group of quantized weights."""
        tensors = {
            f"{name}/{part}": array
            for name, weight in weights.items()
            for part, array in _parts(weight)
        }
        self._write(group, lambda file: save_file(tensors, file))

    def weights(
        self, schemes: Mapping[str, Scheme], columns: Mapping[str, int]
    ) -> "FinishedWeights":
        """Return the quantized weights of all groups, read on access."""
        return FinishedWeights(self._folder, schemes, columns)

    def _write(self, name: str, save: Callable[[Path], None]) -> None:
        building = self._folder / "building"
        save(building)
        building.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


class FinishedWeights(Mapping[str, QuantizedWeight]):
    """Quantized weights by name, read from the files of a workspace on each access."""

    def __init__(
        self, folder: Path, schemes: Mapping[str, Scheme], columns: Mapping[str, int]
    ) -> None:
        """Find the weights in the headers of the files."""
        self._schemes, self._columns = schemes, columns
        self._files: dict[str, dict[str, Path]] = {}
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="np") as opened:
                for key in opened.keys():  # noqa: SIM118 - not a mapping
                    name, _, part = key.rpartition("/")
                    if name:
                        self._files.setdefault(name, {})[part] = file

    def __getitem__(self, name: str) -> QuantizedWeight:
        """Read a weight."""
        parts = {}
        for part, file in self._files[name].items():
            with safe_open(file, framework="np") as opened:
                parts[part] = opened.get_tensor(f"{name}/{part}")
        coded = CodedScales(parts[_CODES], parts[_ROWS]) if _CODES in parts else None
        return QuantizedWeight(
            self._schemes[name].bits,
            self._columns[name],
            parts["packed"],
            parts[_SCALES] if coded is None else coded.values(),
            parts.get(_ZERO_POINTS),
            coded,
        )

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._files)

    def __len__(self) -> int:
        """Return the number of weights."""
        return len(self._files)


def _is_complete(file: Path) -> bool:
    try:
        with safe_open(file, framework="np"):
            return True
    except SafetensorError:
        return False


def _parts(weight: QuantizedWeight) -> Iterator[tuple[str, np.ndarray]]:
    yield "packed", weight.packed
    if weight.coded_scales is None:
        yield _SCALES, weight.scales
    else:
        yield _CODES, weight.coded_scales.codes
        yield _ROWS, weight.coded_scales.rows
    if weight.zero_points is not None:
        yield _ZERO_POINTS, weight.zero_points
