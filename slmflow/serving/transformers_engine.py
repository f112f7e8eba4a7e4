"""The transformers flavor as an engine: one answer at a time, by its own forward passes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mlflow.pyfunc import PyFuncModel
from numpy.typing import NDArray

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.errors import refuse
from slmflow.runtime.generation.answer import Job
from slmflow.runtime.prompts.conversation import Message


def pipeline_chat(model: PyFuncModel) -> ChatModel:
    """Return the chat model that a loaded MLflow model of the transformers flavor is."""
    pipeline = model.get_raw_model()
    logged = model.model_config or {}
    sampled = logged.get("do_sample", False)
    defaults = {
        "max_tokens": logged.get("max_new_tokens", 256),
        "temperature": logged.get("temperature") if sampled else 0.0,
        "top_p": logged.get("top_p") or 1.0,
    }
    prompts = PipelinePrompts(pipeline.tokenizer)
    return ChatModel(PipelineEngine(pipeline), prompts, "transformers", defaults)


class PipelinePrompts:
    """Prompts as transformers itself writes them."""

    def __init__(self, tokenizer: Any) -> None:
        """Use a fast tokenizer of transformers."""
        self._tokenizer = tokenizer
        self.tokenizer = tokenizer.backend_tokenizer

    def of_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a conversation, up to where the answer begins."""
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True
            )
        except Exception as error:
            refuse(f"the model's chat template does not take these messages: {error}")
        return ids

    def of_document(self, text: str) -> list[int]:
        """Return the token ids of a text that is all there is."""
        ids: list[int] = self._tokenizer(text).input_ids
        return ids


class PipelineEngine:
    """An `Engine` of slmflow.runtime over a text generation pipeline."""

    guides = False

    def __init__(self, pipeline: Any) -> None:
        """Use a loaded pipeline."""
        self._model = pipeline.model
        generation = self._model.generation_config
        ends = generation.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])
        self.context_length: int = self._model.config.max_position_embeddings
        self.defaults: dict[str, Any] = {
            "top_k": generation.top_k or 0,
            "repetition_penalty": generation.repetition_penalty or 1.0,
        }

    def fit(self, jobs: Sequence[Job]) -> bool:
        """Return whether this is one job: more than one would not be faster."""
        return len(jobs) == 1

    def read(self, jobs: Sequence[Job]) -> "PipelineBatch":
        """Return a batch that has read the prompt."""
        return PipelineBatch(self._model, jobs[0])


class PipelineBatch:
    """One answer under way."""

    def __init__(self, model: Any, job: Job) -> None:
        """Read what was asked."""
        self.rows = [job]
        self._model = model
        self._cache: Any = None
        self._logits = self._run(job.prompt)
        self._said = 0

    def step(self) -> None:
        """Have the job say its next token."""
        [job] = self.rows
        if len(job.said) > self._said:
            self._logits = self._run(job.said[self._said :])
            self._said = len(job.said)
        job.say(job.sampler.choose(self._logits))

    def _run(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after further tokens, float32[vocabulary]."""
        with torch.inference_mode():
            out = self._model(
                torch.tensor([tokens], device=self._model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = out.past_key_values
        return np.asarray(out.logits[0, -1].float().cpu().numpy())
