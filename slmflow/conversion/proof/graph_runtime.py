"""Run a graph of a converted folder in the GenAI runtime on the CPU, as serving does.

Nothing here imports torch, so a child process holds little but the model.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
from joblib import cpu_count
from numpy.typing import NDArray

from slmflow.runtime.generation.adapters import LoadedAdapters

Ids = Sequence[int]
Logits = NDArray[np.float32]


class Runtime:
    """One loaded graph: the converted one or a variant of it in the same folder."""

    def __init__(self, folder: Path, graph: str, adapter: str | None = None) -> None:
        """Load a graph of the folder by its file name, and use an adapter of the folder."""
        config = og.Config(str(folder))
        config.clear_providers()
        decoder = {"filename": graph, "session_options": {"intra_op_num_threads": cpu_count()}}
        config.overlay(json.dumps({"model": {"decoder": decoder}}))
        self._model = og.Model(config)
        self._adapters, self._adapter = LoadedAdapters(folder, self._model), adapter
        tokens = json.loads((folder / "genai_config.json").read_text())["model"]
        self._pad_id: int = tokens["pad_token_id"]
        self._end_ids: int | list[int] = tokens["eos_token_id"]

    def logits(self, ids: Ids) -> Logits:
        """Return the logits of a prompt: float32 [tokens, vocabulary].

        A graph restricted to last positions returns one row.
        """
        generator = self._generator([ids], len(ids))
        return np.asarray(generator.get_output("logits")[0], dtype=np.float32)

    def decode_logits(self, rows: Sequence[Ids], steps: int) -> Logits:
        """Decode a padded batch greedily and return the logits of each step.

        Returns float32 [steps, rows, vocabulary], the first those of each row's last prompt token
        (from a graph restricted to last positions), NaN for a row that has ended.
        """
        generator = self._padded_generator(rows, steps)
        logits = []
        is_running = np.full((len(rows), 1), True)
        while not generator.is_done():
            generator.generate_next_token()
            logits.append(np.where(is_running, generator.get_output("logits")[:, -1], np.nan))
            is_running &= ~np.isin(generator.get_next_tokens(), self._end_ids)[:, None]
        ended = np.full_like(logits[0], np.nan)
        return np.stack([*logits, *[ended] * (steps - len(logits))]).astype(np.float32)

    def greedy(self, rows: Sequence[Ids], tokens: int) -> list[list[int]]:
        """Return the tokens generated for each row of a padded batch, the end token included."""
        longest = max(len(row) for row in rows)
        generator = self._padded_generator(rows, tokens)
        while not generator.is_done():
            generator.generate_next_token()
        return [generator.get_sequence(row)[longest:].tolist() for row in range(len(rows))]

    def _padded_generator(self, rows: Sequence[Ids], new_tokens: int) -> og.Generator:
        longest = max(len(row) for row in rows)
        padded = [[*row, *[self._pad_id] * (longest - len(row))] for row in rows]
        return self._generator(padded, longest + new_tokens)

    def _generator(self, rows: Sequence[Ids], length: int) -> og.Generator:
        params = og.GeneratorParams(self._model)
        # Override what the model's generation config might say, so that decoding is plain greedy.
        params.set_search_options(
            max_length=length, batch_size=len(rows), do_sample=False, repetition_penalty=1.0
        )
        generator = self._adapters.activate(self._adapter, og.Generator(self._model, params))
        generator.append_tokens(np.array(rows, dtype=np.int32))
        return generator
