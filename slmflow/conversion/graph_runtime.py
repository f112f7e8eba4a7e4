"""A converted folder in the GenAI runtime, on the CPU, the way it will be served.

Nothing here imports torch, so that a process of its own holds little but the model.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
from joblib import cpu_count
from numpy.typing import NDArray

Ids = Sequence[int]
Logits = NDArray[np.float32]


class Runtime:
    """A graph of a converted folder; the others there may be its variants."""

    def __init__(self, folder: Path, graph: str) -> None:
        """Load a graph of the folder by its file's name."""
        config = og.Config(str(folder))
        config.clear_providers()
        decoder = {"filename": graph, "session_options": {"intra_op_num_threads": cpu_count()}}
        config.overlay(json.dumps({"model": {"decoder": decoder}}))
        self._model = og.Model(config)
        tokens = json.loads((folder / "genai_config.json").read_text())["model"]
        self._padding: int = tokens["pad_token_id"]
        self._ends: int | list[int] = tokens["eos_token_id"]

    def differs(self, text: str, prompt: str, text_ids: Ids, prompt_ids: Ids) -> bool:
        """Tell whether the runtime tokenizes or renders a `Probe` in another way."""
        tokenizer = og.Tokenizer(self._model)
        turn = json.dumps([{"role": "user", "content": text}])
        rendered = tokenizer.apply_chat_template(turn, add_generation_prompt=True)
        tokens = (tokenizer.encode(text).tolist(), tokenizer.encode(prompt).tolist())
        return bool(rendered != prompt or tokens != (text_ids, prompt_ids))

    def logits(self, ids: Ids) -> Logits:
        """Return the logits of a prompt: float32 [tokens, or 1 if the last only, vocabulary]."""
        generator = self._generator([ids], len(ids))
        return np.asarray(generator.get_output("logits")[0], dtype=np.float32)

    def continued(self, rows: Sequence[Ids], steps: int) -> Logits:
        """Return the logits by which a padded batch goes on, greedily: [steps, rows, vocabulary].

        The first are those of each row's last token; the graph gives those of last positions only.
        NaN for a row that has ended.
        """
        generator = self._padded(rows, steps)
        found = []
        going = np.full((len(rows), 1), True)
        while not generator.is_done():
            generator.generate_next_token()
            found.append(np.where(going, generator.get_output("logits")[:, -1], np.nan))
            going &= ~np.isin(generator.get_next_tokens(), self._ends)[:, None]
        ended = np.full_like(found[0], np.nan)
        return np.stack([*found, *[ended] * (steps - len(found))]).astype(np.float32)

    def greedy(self, rows: Sequence[Ids], tokens: int) -> list[list[int]]:
        """Return the tokens that follow each row of a padded batch, up to and with an end token."""
        longest = max(len(row) for row in rows)
        generator = self._padded(rows, tokens)
        while not generator.is_done():
            generator.generate_next_token()
        return [generator.get_sequence(row)[longest:].tolist() for row in range(len(rows))]

    def _padded(self, rows: Sequence[Ids], room: int) -> og.Generator:
        longest = max(len(row) for row in rows)
        padded = [[*row, *[self._padding] * (longest - len(row))] for row in rows]
        return self._generator(padded, longest + room)

    def _generator(self, rows: Sequence[Ids], length: int) -> og.Generator:
        params = og.GeneratorParams(self._model)
        # Of a model's generation config nothing shall change what is most likely.
        params.set_search_options(
            max_length=length, batch_size=len(rows), do_sample=False, repetition_penalty=1.0
        )
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array(rows, dtype=np.int32))
        return generator
