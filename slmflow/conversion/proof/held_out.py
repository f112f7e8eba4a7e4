"""Held-out text: the size of the windows of token ids, and the reference's logits of them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slmflow.conversion.calibration import text
from slmflow.conversion.proof import reference_logits
from slmflow.conversion.proof.reference_logits import Logits, Observer
from slmflow.conversion.reference_model import ReferenceModel, is_large

Ids = Sequence[int]

# Several windows, since the texts are of several kinds.
_TOKENS, _WINDOWS = 2048, 4

# The logits of all windows are in memory once, so a large vocabulary leaves fewer tokens: 488 for
# one of 262,144.
_MAX_BYTES = 512 * 10**6


def window_size(model: Any) -> tuple[int, int]:
    """Return the number of held-out tokens, and the length of a window, for a transformers model.

    A large model runs half as many, since each takes longer. The logits of the tokens take at most
    512 MB, there are at least four windows, and each fits the context length.
    """
    config = model.config.get_text_config()
    wanted = _TOKENS // 2 if is_large(model) else _TOKENS
    tokens = min(wanted, _MAX_BYTES // (np.dtype(np.float32).itemsize * config.vocab_size))
    return tokens, longest_window(config, tokens // _WINDOWS)


def longest_window(config: Any, length: int) -> int:
    """Return a length, or the context length of a model's config if that is smaller."""
    return min(length, getattr(config.get_text_config(), "max_position_embeddings", length))


def build_windows(reference: ReferenceModel, texts: Sequence[str]) -> list[list[int]]:
    """Return windows of token ids, see `text.windows`. Raises UserError for too little text."""
    tokens, length = window_size(reference.model)
    return text.windows(reference.tokenizer, texts, tokens, length, name="calibration.held_out")


@contextmanager
def compute_reference(
    reference: ReferenceModel,
    weights: Mapping[str, torch.Tensor],
    prompts: Sequence[Ids],
    windows: Sequence[Ids],
    observer: Observer | None = None,
) -> Iterator[tuple[list[Logits], "StoredLogits"]]:
    """Compute the reference's logits of prompts and windows; see `reference_logits.compute`.

    Yields those of the prompts in memory, and those of the windows on disk until the context ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        logits = reference_logits.compute(reference.model, weights, [*prompts, *windows], observer)
        stored = StoredLogits(Path(folder), logits[len(prompts) :])
        # Copies: the rows of a pass are parts of one array, that of the windows included.
        kept = [prompt_logits.copy() for prompt_logits in logits[: len(prompts)]]
        del logits
        yield kept, stored


class StoredLogits:
    """Logits of windows in a folder. Each is read when an iteration comes to it."""

    def __init__(self, folder: Path, logits: Sequence[Logits]) -> None:
        """Write the logits."""
        self._files = [folder / f"{number}.npy" for number in range(len(logits))]
        for file, window in zip(self._files, logits, strict=True):
            np.save(file, window, allow_pickle=False)

    def __iter__(self) -> Iterator[Logits]:
        """Iterate over the logits of each window: float32 [tokens, vocabulary]."""
        for file in self._files:
            yield np.load(file, allow_pickle=False)
