"""The `adapter_config.json` of a LoRA adapter: what it asks for, in peft's own meaning.

A setting that is not listed here must ask for nothing, or the adapter is rejected by its name: peft
gains variants of LoRA with each release, and to ignore one would give another model.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import regex

from slmflow.errors import UserError

CONFIG = "adapter_config.json"

N = TypeVar("N", int, float)

# What peft reads only to train, to load the base model, or to initialize what the file then sets.
_WITHOUT_EFFECT = frozenset(
    {
        *("auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
        *("lora_dropout", "megatron_config", "megatron_core", "runtime_config"),
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config"),
        *("qalora_group_size",),
    }
)
_READ = frozenset(
    {
        *("peft_type", "task_type", "r", "lora_alpha", "use_rslora", "rank_pattern"),
        *("alpha_pattern", "init_lora_weights", "target_modules", "exclude_modules"),
        *("layers_to_transform", "layers_pattern", "bias"),
    }
)
# The others change the weights of the base model: the saved matrices are no whole adapter.
_INITS = (None, True, False, "gaussian", "orthogonal", "eva")
_SUPPORTED = "ordinary LoRA on Linear modules, which peft's merge_and_unload writes"
_PATTERN_SECONDS = 1


@dataclass(frozen=True)
class LoraConfig:
    """The settings of an adapter that decide what it computes.

    rank, alpha: of modules that no pattern matches; rank_pattern, alpha_pattern: of the others, by
    regular expression of the module's path; targets: names or one expression of the adapted
    modules, excluded: of those that are left out; layers: indices that are adapted, None for all;
    layers_pattern: expressions of what stands before the index.
    """

    model: str
    rank: int
    alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    targets: str | list[str]
    excluded: str | list[str]
    layers: list[int] | None
    layers_pattern: list[str]
    base_model: str | None

    @classmethod
    def parse(cls, fields: Mapping[str, Any], model: str) -> Self:
        """Parse the content of adapter_config.json; `model` is the adapter's name in messages.

        Raises UserError, with all problems in one message.
        """
        if problems := list(_problems(fields)):
            raise UserError("\n".join(f"{model}: {problem}" for problem in problems))
        layers, base_model = (
            fields.get("layers_to_transform"),
            fields.get("base_model_name_or_path"),
        )
        return cls(
            model,
            rank=fields.get("r", 8),
            alpha=fields.get("lora_alpha", 8),
            use_rslora=bool(fields.get("use_rslora")),
            rank_pattern=fields.get("rank_pattern") or {},
            alpha_pattern=fields.get("alpha_pattern") or {},
            targets=fields["target_modules"],
            excluded=fields.get("exclude_modules") or [],
            layers=[layers] if isinstance(layers, int) else layers or None,
            layers_pattern=_as_list(fields.get("layers_pattern")),
            base_model=base_model if isinstance(base_model, str) else None,
        )

    def adapts(self, path: str) -> bool:
        """Return whether peft adapts the module of this path."""
        if self._is_listed(self.excluded, path) or not self._is_listed(self.targets, path):
            return False
        if self.layers is None or isinstance(self.targets, str) or path in self.targets:
            return True
        index = self._layer_index(path)
        return index is not None and index in self.layers

    def rank_of(self, path: str) -> int:
        """Return the rank of the module of this path."""
        return self._by_pattern(self.rank_pattern, path, self.rank)

    def scaling_of(self, path: str) -> float:
        """Return the factor of the product of B and A for the module of this path."""
        rank = self.rank_of(path)
        alpha = self._by_pattern(self.alpha_pattern, path, self.alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def _is_listed(self, names: str | list[str], path: str) -> bool:
        if isinstance(names, str):
            return (
                names.lower() == "all-linear"
                or self._matches(regex.fullmatch, names, path) is not None
            )
        return any(path == name or path.endswith(f".{name}") for name in names)

    def _layer_index(self, path: str) -> int | None:
        patterns = [rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\." for each in self.layers_pattern]
        for pattern in patterns or [r".*?\.[^.]*\.(?P<idx>\d+)\."]:
            if (found := self._matches(regex.match, pattern, path)) is not None:
                return int(found["idx"])
        return None

    def _by_pattern(self, values: Mapping[str, N], path: str, default: N) -> N:
        for pattern, value in values.items():
            if self._matches(regex.match, rf"(.*\.)?({pattern})$", path) is not None:
                return value
        return default

    def _matches(self, search: Callable[..., Any], pattern: str, path: str) -> Any:
        """Match an expression of the file. Raises UserError if it is invalid or takes too long."""
        try:
            return search(pattern, path, timeout=_PATTERN_SECONDS)
        except (regex.error, TimeoutError, RecursionError) as error:
            raise UserError(
                f"{self.model}: the pattern {pattern[:100]!r} in {CONFIG} cannot be matched "
                f"({error or 'it takes too long'}): do not trust this adapter"
            ) from error


def _problems(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message for each setting that is invalid or not supported."""
    if (kind := fields.get("peft_type")) != "LORA":
        yield f"peft_type={_shown(kind)} in {CONFIG} is not supported: give a LoRA adapter"
        return
    if (task := fields.get("task_type")) not in (None, "CAUSAL_LM"):
        yield f"task_type={_shown(task)} in {CONFIG} is not supported: give one of CAUSAL_LM"
    if type(rank := fields.get("r", 8)) is not int or rank < 1:
        yield f"r={_shown(rank)} in {CONFIG} must be a whole number of at least 1"
    if not _is_number(alpha := fields.get("lora_alpha", 8)):
        yield f"lora_alpha={_shown(alpha)} in {CONFIG} must be a number"
    yield from _pattern_problems(fields)
    if (init := fields.get("init_lora_weights")) not in _INITS:
        yield (
            f"init_lora_weights={_shown(init)} in {CONFIG} is not supported, because it changes "
            "the base model: save the adapter with peft's path_initial_model_for_weight_conversion"
        )
    if fields.get("bias", "none") != "none":
        yield f"bias={_shown(fields['bias'])} in {CONFIG} is not supported: only {_SUPPORTED}"
    targets, excluded = fields.get("target_modules"), fields.get("exclude_modules")
    if not targets or not _are_names(targets):
        yield f"target_modules={_shown(targets)} in {CONFIG} must be names of modules"
    if excluded and not _are_names(excluded):
        yield f"exclude_modules={_shown(excluded)} in {CONFIG} must be names of modules"
    layers, pattern = fields.get("layers_to_transform"), fields.get("layers_pattern")
    if not all(type(index) is int for index in _as_list(layers)):
        yield f"layers_to_transform={_shown(layers)} in {CONFIG} must be indices of layers"
    if pattern and not _are_names(pattern):
        yield f"layers_pattern={_shown(pattern)} in {CONFIG} must be names"
    for name in sorted(fields.keys() - _READ - _WITHOUT_EFFECT, key=str):
        if fields[name]:
            yield f"{name}={_shown(fields[name])} in {CONFIG} is not supported: only {_SUPPORTED}"


def _pattern_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    ranks, alphas = fields.get("rank_pattern") or {}, fields.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not all(
        type(rank) is int and rank > 0 for rank in ranks.values()
    ):
        yield f"rank_pattern={_shown(ranks)} in {CONFIG} must have whole numbers of at least 1"
    if not isinstance(alphas, dict) or not all(map(_is_number, alphas.values())):
        yield f"alpha_pattern={_shown(alphas)} in {CONFIG} must have numbers"


def _is_number(value: Any) -> bool:
    # The largest float32 is the limit: what exceeds it is infinite in the product.
    return type(value) in (int, float) and abs(value) < 1e38


def _are_names(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    )


def _as_list(value: Any) -> list[Any]:
    return [] if value is None or value == "" else value if isinstance(value, list) else [value]


def _shown(value: Any) -> str:
    return repr(value)[:100]
