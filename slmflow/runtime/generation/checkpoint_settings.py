"""The generation settings of a checkpoint: what its generation_config.json asks of every answer.

They mean what they mean to transformers' `generate`. Length, temperature, top-p and whether to
sample are no such settings: requests and the logged model decide these.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FILE = "generation_config.json"

SAMPLING = ("top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""The settings that apply to sampling only."""

# What transformers takes where the checkpoint says nothing.
_DEFAULT_TOP_K = 50

Sequences = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CheckpointSettings:
    """Settings by transformers' names; the defaults have no effect.

    top_k, repetition_penalty: for requests that leave them out. sequence_bias: pairs of token ids
    and what is added to the logit of the last, where the others precede it.
    exponential_decay_length_penalty: the number of tokens after which end tokens become more
    likely, and the factor per token. min_p, top_h, typical_p, epsilon_cutoff and eta_cutoff apply
    to sampling only.
    """

    top_k: int = _DEFAULT_TOP_K
    repetition_penalty: float = 1.0
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    no_repeat_ngram_size: int = 0
    bad_words_ids: Sequences = ()
    min_length: int = 0
    min_new_tokens: int = 0
    forced_eos_token_id: tuple[int, ...] = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    min_p: float = 0.0
    top_h: float = 1.0
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    @classmethod
    def parse(cls, values: Mapping[str, Any], vocabulary_size: int) -> "CheckpointSettings":
        """Read the settings among the values of a generation_config.json; null is the default.

        Raises ValueError, with one line for each, for values that transformers would reject when
        it generates.
        """
        parsed: dict[str, Any] = {}
        problems = []
        for name, (read, requirement) in _READERS.items():
            if (value := values.get(name)) is None:
                continue
            try:
                parsed[name] = read(value, vocabulary_size)
            except (TypeError, ValueError, IndexError, OverflowError):
                problems.append(f"{name}={value!r:.200}: must be {requirement}")
        if problems:
            raise ValueError("\n".join(problems))
        return cls(**parsed)

    @classmethod
    def read(cls, folder: Path, vocabulary_size: int) -> "CheckpointSettings":
        """Read the generation_config.json of a model folder, if it has one."""
        file = folder / FILE
        values = json.loads(file.read_bytes()) if file.is_file() else {}
        return cls.parse(values, vocabulary_size)

    def request_defaults(self) -> dict[str, Any]:
        """Return the request options that they set, for requests that leave these out."""
        return {"top_k": self.top_k, "repetition_penalty": self.repetition_penalty}

    @property
    def change_logits(self) -> bool:
        """Whether they change which token is the most likely one, apart from the penalty."""
        return any(
            getattr(self, each.name) != each.default
            for each in fields(self)
            if each.name not in SAMPLING and each.name != "repetition_penalty"
        )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _count(value: Any, _: int = 0) -> int:
    """Return a number of tokens; a negative one is none, as many configs mean by -1."""
    if type(value) is not int:
        raise TypeError
    return max(0, value)


def _in_range(is_valid: Callable[[float], bool]) -> Callable[[Any, int], float]:
    def read(value: Any, _: int) -> float:
        if not is_valid(number := _number(value)):
            raise ValueError
        return number

    return read


def _cutoff(value: Any, _: int) -> float:
    """Return a cutoff, or 0 for one outside of 0 to 1, which transformers ignores."""
    number = _number(value)
    return number if 0 < number < 1 else 0.0


def _flag(value: Any, _: int) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _ids(value: Any, vocabulary_size: int) -> tuple[int, ...]:
    """Return token ids. Ids outside the vocabulary have no logit to change."""
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise TypeError
    return tuple(token for token in value if 0 <= token < vocabulary_size)


def _id_or_ids(value: Any, vocabulary_size: int) -> tuple[int, ...]:
    ids = [value] if isinstance(value, int) else value
    if len(_ids(ids, vocabulary_size)) != len(ids) or not ids:
        raise ValueError
    return tuple(ids)


def _sequence(value: Any, vocabulary_size: int) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError
    return _id_or_ids(value, vocabulary_size)


def _sequences(value: Any, vocabulary_size: int) -> Sequences:
    if not isinstance(value, list) or not value:
        raise TypeError
    return tuple(_sequence(each, vocabulary_size) for each in value)


def _biases(value: Any, size: int) -> tuple[tuple[tuple[int, ...], float], ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    biases: dict[tuple[int, ...], float] = {}  # of equal sequences the last bias counts
    for each in value:
        tokens, bias = each
        if not isinstance(bias, float):
            raise TypeError
        biases[_sequence(tokens, size)] = bias
    return tuple(biases.items())


def _decay(value: Any, _: int) -> tuple[int, float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError
    start, factor = value
    return _count(start), _number(factor)


_COUNT, _TOKENS = "a whole number", "a list of token ids"
_SEQUENCES = "a list of lists of token ids of the vocabulary, none of them empty"

# Of each setting: how it is read, and what it must be.
_READERS: dict[str, tuple[Callable[[Any, int], Any], str]] = {
    "top_k": (_count, _COUNT),
    "repetition_penalty": (_in_range(lambda value: value > 0), "a number above 0"),
    "sequence_bias": (_biases, "a list of pairs: a list of token ids, and a decimal number"),
    "no_repeat_ngram_size": (_count, _COUNT),
    "bad_words_ids": (_sequences, _SEQUENCES),
    "min_length": (_count, _COUNT),
    "min_new_tokens": (_count, _COUNT),
    "forced_eos_token_id": (_id_or_ids, "a token id of the vocabulary, or a list of them"),
    "remove_invalid_values": (_flag, "true or false"),
    "exponential_decay_length_penalty": (_decay, "a list of a whole number and a factor"),
    "suppress_tokens": (_ids, _TOKENS),
    "begin_suppress_tokens": (_ids, _TOKENS),
    "min_p": (_in_range(lambda value: 0 <= value <= 1), "a number from 0 to 1"),
    "top_h": (_in_range(lambda value: 0 < value <= 1), "a number above 0 and at most 1"),
    "typical_p": (_in_range(lambda value: value > 0), "a number above 0"),
    "epsilon_cutoff": (_cutoff, "a number"),
    "eta_cutoff": (_cutoff, "a number"),
}

NAMES = tuple(_READERS)
"""The settings that the sampler applies."""
