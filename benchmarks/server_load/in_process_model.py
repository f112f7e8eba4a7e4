"""The logged model in this process, through MLflow and through the bare runtime.

Both use the same loaded model, so its weights are in memory once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from benchmarks.server_load.prompts import NEW_TOKENS


@dataclass(frozen=True)
class Completion:
    """A completion and its token counts."""

    text: str
    prompt_tokens: int
    tokens: int


class InProcessModel:
    """The pyfunc that MLflow loads, and the runtime inside it."""

    def __init__(self, model_uri: str) -> None:
        """Load the model."""
        self._pyfunc = mlflow.pyfunc.load_model(model_uri)
        python_model = self._pyfunc.unwrap_python_model()
        # Private: only this benchmark needs them.
        self._model, self._prompts = python_model._engine._model, python_model._prompts

    def predict(self, texts: Sequence[str]) -> list[Completion]:
        """Return the greedy completions of a frame with one row per text."""
        messages = [[{"role": "user", "content": text}] for text in texts]
        frame = pd.DataFrame({"messages": messages})
        requests = frame.assign(max_tokens=NEW_TOKENS, temperature=0.0)
        return [_completion(response) for response in self._pyfunc.predict(requests)]

    def complete(self, text: str) -> Completion:
        """Return the greedy completion of a chat request, sent as MLflow's scoring server does."""
        request = {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": NEW_TOKENS,
            "temperature": 0.0,
        }
        [response] = self._pyfunc.predict(request)
        return _completion(response)

    def render(self, text: str) -> str:
        """Return the prompt that the chat template makes of a text."""
        messages = [{"role": "user", "content": text}]
        prompt: str = self._prompts._template.render(messages)
        return prompt

    def complete_bare(self, prompt: str) -> Completion:
        """Return the greedy completion of a rendered prompt, with the fewest runtime calls."""
        import onnxruntime_genai as og  # the model's code must set it up first

        tokenizer = self._prompts.tokenizer
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + NEW_TOKENS, do_sample=False)
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        generated = generator.get_sequence(0)[len(ids) :]
        text = tokenizer.decode(generated.tolist()).lstrip()
        return Completion(text, len(ids), len(generated))


def _completion(response: dict[str, Any]) -> Completion:
    usage = response["usage"]
    return Completion(
        response["choices"][0]["message"]["content"],
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
