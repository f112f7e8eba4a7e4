"""The transformers flavor as an engine: one request at a time, by forward passes of its model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mlflow.pyfunc import PyFuncModel
from numpy.typing import NDArray

from slmflow.flavors.pipeline_prompts import PipelinePromptEncoder
from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.checkpoint_settings import CheckpointSettings
from slmflow.runtime.generation.engine import WholePrefill, padded_tokens
from slmflow.runtime.protocol import Deliver, Session
from slmflow.runtime.session import ModelSession

# Read at once for the log-probabilities of a prompt, whose logits take memory.
_REPLAYED_TOKENS = 128


def open_session(model: PyFuncModel, deliver: Deliver, model_name: str | None = None) -> Session:
    """Return a session with a loaded MLflow model of the transformers flavor."""
    pipeline = model.get_raw_model()
    config = model.model_config or {}
    defaults = {
        "max_tokens": config.get("max_new_tokens", 256),
        "temperature": config.get("temperature") if config.get("do_sample", False) else 0.0,
        "top_p": config.get("top_p") or 1.0,
    }
    prompts = PipelinePromptEncoder(pipeline.tokenizer)
    name = model_name or "transformers"
    return ModelSession(ChatModel(PipelineEngine(pipeline), prompts, name, defaults), deliver)


class PipelineEngine:
    """An `Engine` over a text generation pipeline."""

    supports_guidance = False
    adapters: tuple[str, ...] = ()

    def __init__(self, pipeline: Any) -> None:
        """Use a loaded pipeline."""
        self._model = pipeline.model
        generation = self._model.generation_config
        end_tokens = generation.eos_token_id
        self.end_tokens = frozenset(end_tokens if isinstance(end_tokens, list) else [end_tokens])
        self.context_length: int = self._model.config.max_position_embeddings
        self.vocabulary_size: int = self._model.get_input_embeddings().num_embeddings
        self.settings = CheckpointSettings.parse(generation.to_dict(), self.vocabulary_size)
        self.defaults: dict[str, Any] = self.settings.request_defaults()

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether this is a single request: batching would not be faster."""
        return len(requests) == 1

    def count_unread(self, requests: Sequence[ActiveRequest]) -> int:
        """Return how many tokens a prefill of these requests reads."""
        return padded_tokens(requests)

    def shared_length(self, request: ActiveRequest, other: ActiveRequest) -> int:
        """Return 0: nothing that is read serves another request."""
        return 0

    def start_prefill(self, requests: Sequence[ActiveRequest]) -> WholePrefill:
        """Begin to read the prompt of a request."""
        return WholePrefill(requests, lambda: PipelineBatch(self._model, requests[0]))


class PipelineBatch:
    """A batch of one request. Its cache grows as far as is needed."""

    is_full = False

    def __init__(self, model: Any, request: ActiveRequest) -> None:
        """Read the prompt."""
        self.requests = [request]
        self._model = model
        self._cache: Any = None
        self._logits = self._forward(request.prompt)[-1]
        self._read = 0

    def step(self) -> None:
        """Decode the next token of the request, or replay some."""
        [request] = self.requests
        tokens = request.generated[self._read : self._read + _REPLAYED_TOKENS]
        if tokens:
            self._replay(request, tokens)
        if self._read == len(request.generated) and not request.finished:
            request.append_token(request.sampler.choose(self._logits), self._logits)

    def close(self) -> None:
        """Do nothing: the cache is freed with the batch."""

    def _replay(self, request: ActiveRequest, tokens: Sequence[int]) -> None:
        logits = [self._logits, *self._forward(tokens)]
        for index in range(len(tokens)):
            request.read_replayed(self._read + index, logits[index])
        self._logits = logits[-1]
        self._read += len(tokens)

    def _forward(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read further tokens, and return the logits, float32[tokens, vocabulary], after each.

        Of the prompt these are the logits after the last token only.
        """
        with torch.inference_mode():
            out = self._model(
                torch.tensor([tokens], device=self._model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1 if self._cache is None else len(tokens),
            )
        self._cache = out.past_key_values
        return np.asarray(out.logits[0].float().cpu().numpy())
