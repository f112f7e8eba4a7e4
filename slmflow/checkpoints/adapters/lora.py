"""A LoRA adapter on disk: its matrices, read one at a time, and what they add to a weight."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import nn

from slmflow.checkpoints import files
from slmflow.checkpoints.adapters.lora_config import CONFIG, LoraConfig
from slmflow.errors import UserError

WEIGHTS = "adapter_model.safetensors"

Shape = tuple[int, ...]

_MATRIX = re.compile(r"base_model\.model\.(?P<module>\w+(\.\w+)*)\.lora_(?P<part>[AB])\.weight")
_DTYPES = ("F16", "BF16", "F32")

_MOST_SHOWN = 3  # problems in one message


@dataclass(frozen=True)
class LoraModule:
    """What an adapter adds to one Linear module: `scaling * B @ A`.

    rank, inputs, outputs: A is [rank, inputs], B is [outputs, rank].
    """

    path: str
    rank: int
    inputs: int
    outputs: int
    scaling: float


class LoraAdapter:
    """A folder with adapter_config.json and adapter_model.safetensors. No file stays open.

    modules: by their paths in the base model; name: of the adapter, for messages.
    """

    def __init__(self, folder: Path, name: str, config: LoraConfig) -> None:
        """Read the headers of the matrices; see `read`."""
        self._file, self.name, self.config = folder / WEIGHTS, name, config
        self.modules: Mapping[str, LoraModule] = _read_modules(folder, name, config)

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """Open an adapter and check it; no matrix is read.

        name: for messages. Raises UserError if a file is missing or damaged, and for all that is
        not ordinary LoRA on Linear modules.
        """
        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise UserError(f"{name} has no {file}: give an adapter as peft saves it")
        return cls(
            folder, name, LoraConfig.parse(files.read_json_object(folder / CONFIG, name), name)
        )

    def check_values(self) -> None:
        """Raise UserError for a matrix with a value that is infinite or not a number."""
        for module in self.modules.values():
            for matrix in self.matrices(module.path):
                if not bool(matrix.isfinite().all()):
                    raise UserError(
                        f"{self.name}: the matrices of {module.path} have values that are not "
                        "finite numbers: train the adapter again with a lower learning rate"
                    )

    def check_base(self, shapes: Mapping[str, Shape], base: str) -> None:
        """Raise UserError unless every adapted module is a weight matrix of the base model.

        shapes: of the base model's tensors by name; base: its name in messages.
        """
        problems = []
        for module in self.modules.values():
            shape = shapes.get(f"{module.path}.weight")
            expected = (module.outputs, module.inputs)
            if shape is None:
                problems.append(f"{base} has no module {module.path}")
            elif shape != expected:
                problems.append(
                    f"{module.path} is {list(shape)} in {base}, but {list(expected)} in the adapter"
                )
        self._raise(problems)

    def check_model(self, model: Any) -> None:
        """Raise UserError unless every adapted module is a Linear one with a weight of its own.

        model: of transformers, which may be on the meta device.
        """
        parameters = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
        modules = dict(model.named_modules())
        problems = []
        for path in self.modules:
            module = modules.get(path)
            if not isinstance(module, nn.Linear):
                found = "missing" if module is None else type(module).__name__
                problems.append(f"{path} is {found} in the base model, not Linear")
            elif parameters.count(id(module.weight)) > 1:
                problems.append(f"{path} shares its weight with another module of the base model")
        self._raise(problems)
        self.check_base(
            {n: tuple(t.shape) for n, t in model.state_dict().items()}, "the base model"
        )

    def add_to(self, path: str, weight: torch.Tensor, rows: Any = ...) -> None:
        """Add what the adapter has for a module to its weight, or to rows of it, in place.

        weight: float32 [outputs, inputs], or those rows; rows: their slice, `...` for all. Product
        and sum are in float32, as in peft with a base model in float32.
        """
        a, b = self.matrices(path)
        weight += (b[rows] @ a) * self.modules[path].scaling

    def matrices(self, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the matrices A and B of a module: float32 [rank, inputs], [outputs, rank]."""
        with safe_open(self._file, framework="pt") as opened:
            a, b = (opened.get_tensor(_matrix_name(path, part)).float() for part in "AB")
        return a, b

    def _raise(self, problems: list[str]) -> None:
        if problems:
            raise UserError(
                f"{self.name} does not fit: {_listed(problems)}. Choose the base model that the "
                "adapter was trained on"
            )


def _read_modules(folder: Path, name: str, config: LoraConfig) -> dict[str, LoraModule]:
    """Return the adapted modules by path. Raises UserError for any other tensors."""
    shapes: dict[str, dict[str, Shape]] = {}
    problems = []
    for tensor, shape, dtype in _headers(folder, name):
        if (matched := _MATRIX.fullmatch(tensor)) is None:
            problems.append(f"{tensor[:200]} is no matrix of a Linear module")
        elif dtype not in _DTYPES:
            problems.append(f"{tensor} is {dtype}, not a float of 16 or 32 bits")
        else:
            shapes.setdefault(matched["module"], {})[matched["part"]] = shape
    for path, parts in shapes.items():
        problems += _shape_problems(path, parts, config)
    if not shapes and not problems:
        problems.append("the file is empty")
    if problems:
        raise UserError(
            f"{WEIGHTS} of {name} is not supported: {_listed(problems)}. Give ordinary LoRA on "
            "Linear modules, or merge the adapter with peft and convert the whole model"
        )
    return {
        path: LoraModule(path, parts["A"][0], parts["A"][1], parts["B"][0], config.scaling_of(path))
        for path, parts in sorted(shapes.items())
    }


def _shape_problems(path: str, parts: Mapping[str, Shape], config: LoraConfig) -> Iterator[str]:
    if missing := {"A", "B"} - parts.keys():
        yield f"{path} lacks lora_{missing.pop()}"
        return
    a, b, rank = parts["A"], parts["B"], config.rank_of(path)
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
        yield f"{path} has matrices {list(a)} and {list(b)}, not of rank {rank} as {CONFIG} says"
    elif rank > min(a[1], b[0]):
        yield f"{path} has rank {rank}, more than the dimensions of its weight"
    elif not config.adapts(path):
        yield f"{path} is none of the target_modules in {CONFIG}"


def _headers(folder: Path, name: str) -> Iterator[tuple[str, Shape, str]]:
    with files.open_safetensors(folder / WEIGHTS, name) as opened:
        for tensor in opened.keys():  # noqa: SIM118 - not a mapping
            header = opened.get_slice(tensor)
            yield tensor, tuple(header.get_shape()), header.get_dtype()


def _listed(problems: list[str]) -> str:
    """Return the first problems in one line, and how many more there are."""
    more = f" and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
    return "; ".join(problems[:_MOST_SHOWN]) + more


def _matrix_name(path: str, part: str) -> str:
    return f"base_model.model.{path}.lora_{part}.weight"
