"""The logged model in this process, asked as MLflow asks it, and the runtime beneath it.

Both run the same loaded model, so that weights are in memory once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from benchmarks.server_load.prompts import NEW_TOKENS


@dataclass(frozen=True)
class Said:
    """A completed answer."""

    text: str
    prompt_tokens: int
    tokens: int


class LoadedModel:
    """The pyfunc that MLflow loads, and the runtime beneath it."""

    def __init__(self, model_uri: str) -> None:
        """Load it."""
        self._pyfunc = mlflow.pyfunc.load_model(model_uri)
        inner = self._pyfunc.unwrap_python_model()
        # Nothing else needs these, so the package that ships with a model keeps them to itself.
        self._model, self._prompts = inner._engine._model, inner._prompts

    def predict(self, texts: Sequence[str]) -> list[Said]:
        """Return the greedy answers to a frame with a row for each text."""
        messages = [[{"role": "user", "content": text}] for text in texts]
        frame = pd.DataFrame({"messages": messages})
        asked = frame.assign(max_tokens=NEW_TOKENS, temperature=0.0)
        return [_said(completion) for completion in self._pyfunc.predict(asked)]

    def answer(self, text: str) -> Said:
        """Return the greedy answer to a chat request, given as MLflow's scoring server gives it."""
        request = {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": NEW_TOKENS,
            "temperature": 0.0,
        }
        [completion] = self._pyfunc.predict(request)
        return _said(completion)

    def rendered(self, text: str) -> str:
        """Return the prompt that the chat template makes of a text."""
        messages = [{"role": "user", "content": text}]
        prompt: str = self._prompts._template.render(messages)
        return prompt

    def bare(self, prompt: str) -> Said:
        """Return the greedy answer to a rendered prompt, by as little as gets it of the runtime."""
        import onnxruntime_genai as og  # not before the model's own code has prepared for it

        tokenizer = self._prompts.tokenizer
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + NEW_TOKENS, do_sample=False)
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        said = generator.get_sequence(0)[len(ids) :]
        return Said(tokenizer.decode(said.tolist()).lstrip(), len(ids), len(said))


def _said(completion: dict[str, Any]) -> Said:
    usage = completion["usage"]
    return Said(
        completion["choices"][0]["message"]["content"],
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
