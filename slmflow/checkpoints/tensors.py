"""The weights of a checkpoint, read one tensor at a time and checked against the model."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import safe_open

from slmflow.checkpoints import files
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.errors import UserError

# Each page read from a mapped file counts as resident memory until the mapping is closed.
CHUNK_BYTES = 64 * 2**20

_ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}

Shape = tuple[int, ...]


class TensorHeader(NamedTuple):
    """File, name, shape and dtype (as safetensors spells it) of a tensor in a checkpoint."""

    file: Path
    name: str
    shape: Shape
    dtype: str


class CheckpointTensors(Mapping[str, torch.Tensor]):
    """Tensors by their names in the model's `state_dict`, each read from disk on every access.

    `tensors[name]` is contiguous float32, whatever float type the file has. No file stays open
    between accesses, so memory holds one tensor and at most `CHUNK_BYTES` of its file. With an
    adapter it is the tensor of the adapted model, merged as it is read.
    """

    def __init__(
        self,
        folder: Path,
        expected: Mapping[str, Shape],
        tied: Iterable[Collection[str]] = (),
        base_prefix: str = "",
    ) -> None:
        """Find every expected tensor in the headers of the files; no weight is read.

        expected: shape of each tensor of the model; tied: groups of names that share one tensor,
        where the first name that the files have provides it for all; base_prefix: a prefix that the
        names in the files may lack (transformers' `base_model_prefix`), or that the language model
        of a multimodal checkpoint extends.

        Raises UserError for files that are missing, damaged or outside the folder, and, with all
        names in one message, for tensors that are missing, misshapen or not floats.
        """
        headers = _read_model_headers(folder, base_prefix)
        for group in tied:
            if source := next((headers[name] for name in group if name in headers), None):
                headers.update(dict.fromkeys(group, source))
        _check_complete(folder, expected, headers)
        self._headers = {name: headers[name] for name in expected}
        _check_dtypes(folder, self._headers)
        _check_shapes(folder, expected, self._headers)
        self._adapter: LoraAdapter | None = None

    @classmethod
    def for_model(cls, folder: Path, model: Any, adapter: LoraAdapter | None = None) -> Self:
        """Open the weights for a transformers model, which may be on the meta device.

        adapter: merged into the weights. Raises UserError as the constructor does, and for an
        adapter that does not fit the model.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        opened = cls(folder, expected, _tied_names(model), _base_prefix(model))
        if adapter is not None:
            adapter.check_model(model)
            opened._adapter = adapter
        return opened

    def tied_names(self, name: str) -> tuple[str, ...]:
        """Return all names that share the tensor, including `name` itself."""
        return tuple(
            other for other, header in self._headers.items() if header == self._headers[name]
        )

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor without reading it."""
        return self._headers[name].shape

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the model's order."""
        return iter(self._headers)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._headers)

    def __contains__(self, name: object) -> bool:
        """Return whether the model has this tensor, without reading it."""
        return name in self._headers

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor as a new contiguous float32 tensor."""
        header = self._headers[name]
        tensor = torch.empty(header.shape, dtype=torch.float32)
        module = name.removesuffix(".weight")
        is_adapted = self._adapter is not None and module in self._adapter.modules
        for index, chunk in read_chunks(header):
            tensor[index] = chunk
            if self._adapter is not None and is_adapted:
                self._adapter.add_to(module, tensor[index], index)
        return tensor


def has_untied_values(folder: Path, model: Any) -> bool:
    """Return whether the files have different values for tensors that the model ties.

    transformers 5 does not tie those, whatever config.json says. Raises UserError as `read_headers`
    does.
    """
    headers = _read_model_headers(folder, _base_prefix(model))
    groups = [[headers[name] for name in group if name in headers] for group in _tied_names(model)]
    return not all(_have_equal_values(group[0], other) for group in groups for other in group[1:])


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Return the headers of all tensors of a checkpoint by their names in the files.

    Raises UserError for files that are missing, damaged or outside the folder.
    """
    return {
        header.name: header
        for file in files.weight_files(folder, str(folder))
        for header in _read_header(file, str(folder))
    }


def read_chunks(header: TensorHeader) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield the rows of a tensor in chunks of at most `CHUNK_BYTES`, each with their index.

    Chunks have the type of the file.
    """
    for index in _chunk_indices(header):
        yield index, _read_chunk(header, index)


def _have_equal_values(first: TensorHeader, second: TensorHeader) -> bool:
    return first.shape == second.shape and all(
        torch.equal(_read_chunk(first, index), _read_chunk(second, index))
        for index in _chunk_indices(first)
    )


def _read_chunk(header: TensorHeader, index: Any) -> torch.Tensor:
    with safe_open(header.file, framework="pt") as file:
        chunk: torch.Tensor = file.get_slice(header.name)[index]
        return chunk


def _chunk_indices(header: TensorHeader) -> list[Any]:
    """Return the indices that split a tensor by rows into chunks of at most `CHUNK_BYTES`."""
    size = torch.Size(header.shape).numel() * _ITEM_BYTES[header.dtype]
    if size <= CHUNK_BYTES:
        return [...]
    rows = header.shape[0]
    step = max(1, CHUNK_BYTES * rows // size)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _tied_names(model: Any) -> list[list[str]]:
    """Return the groups of names under which the model holds the same parameter."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _base_prefix(model: Any) -> str:
    """Return the prefix of the base model's tensors, empty for a model without a base model."""
    prefix: str = model.base_model_prefix
    return prefix if hasattr(model, prefix) else ""


def _read_model_headers(folder: Path, base_prefix: str) -> dict[str, TensorHeader]:
    """Return the headers of a checkpoint by their names in the model."""
    return _add_base_prefix(_read_language_model(read_headers(folder), base_prefix), base_prefix)


def _read_language_model(
    headers: Mapping[str, TensorHeader], prefix: str
) -> dict[str, TensorHeader]:
    """Give the tensors of a multimodal checkpoint's language model the names of a text model."""
    inner = f"{prefix}.language_model."
    return {
        f"{prefix}.{name.removeprefix(inner)}"
        if prefix and name.startswith(inner)
        else name: header
        for name, header in headers.items()
    }


def _add_base_prefix(headers: Mapping[str, TensorHeader], prefix: str) -> dict[str, TensorHeader]:
    """Add the prefix to all names of a file that was saved from the base model alone.

    As in transformers: only if no name in the file starts with the prefix.
    """
    if not prefix or any(name.startswith(prefix) for name in headers):
        return dict(headers)
    return {f"{prefix}.{name}": header for name, header in headers.items()}


def _read_header(file: Path, model: str) -> Iterator[TensorHeader]:
    with files.open_safetensors(file, model) as opened:
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            tensor = opened.get_slice(name)
            yield TensorHeader(file, name, tuple(tensor.get_shape()), tensor.get_dtype())


def _check_complete(
    folder: Path, expected: Mapping[str, Shape], headers: Mapping[str, TensorHeader]
) -> None:
    if missing := [name for name in expected if name not in headers]:
        raise UserError(
            f"the weights in {folder} lack {_abbreviate(missing)}, of the {len(expected)} tensors "
            "that config.json requires. Check that config.json and the weights belong together, "
            "and that they are a complete causal language model, not quantized and not an adapter"
        )


def _check_dtypes(folder: Path, headers: Mapping[str, TensorHeader]) -> None:
    if unsupported := [
        f"{name} ({header.dtype})"
        for name, header in headers.items()
        if header.dtype not in _ITEM_BYTES
    ]:
        raise UserError(
            f"the weights in {folder} are not all floats of 16 or 32 bits: "
            f"{_abbreviate(unsupported)}. Choose the model's unquantized version; the target "
            "quantizes it"
        )


def _check_shapes(
    folder: Path, expected: Mapping[str, Shape], headers: Mapping[str, TensorHeader]
) -> None:
    misshapen = [
        f"{name} is {list(headers[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if headers[name].shape != shape
    ]
    if misshapen:
        raise UserError(
            f"the weights in {folder} have other shapes than config.json requires: "
            f"{_abbreviate(misshapen)}. Check that config.json and the weights belong together"
        )


def _abbreviate(items: list[str]) -> str:
    """Return the first three items, and how many more there are."""
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more
