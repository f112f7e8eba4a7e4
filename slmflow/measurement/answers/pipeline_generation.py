"""Answer with the pipeline of MLflow's transformers flavor: record its requests, and repeat them.

A request through MLflow shows with which arguments the pipeline calls `generate`; batches then have
the same. Texts and token counts come from the ids that `generate` takes and returns: MLflow's own
may drop spaces before punctuation, cut the text by the length of the decoded prompt, and count the
prompt's tokens otherwise than it was read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.flavors.chat_interfaces import Completion, find_interface, request_completion
from slmflow.flavors.pipeline_prompts import PipelinePromptEncoder
from slmflow.measurement.answers.generate_settings import GenerateSettings
from slmflow.runtime.chat_model import reject_empty, reject_long
from slmflow.runtime.generation.detokenizer import CompletionText
from slmflow.runtime.generation.reasoning import ReasoningSplitter
from slmflow.runtime.prompts.vocabulary import reject_unknown_tokens

if TYPE_CHECKING:
    from slmflow.measurement.answers.generate_recorder import GenerateCall


@dataclass(frozen=True)
class RecordedRequest:
    """What the model read and wrote for one request.

    prompt_ids: as read; generated_ids: with the end token; first_token_at: the time of the first
    token by `time.perf_counter`.
    """

    prompt_ids: list[int]
    generated_ids: list[int]
    first_token_at: float


class PipelineGenerator:
    """Generates with the text generation pipeline of a loaded MLflow model."""

    def __init__(self, model: PyFuncModel) -> None:
        """Record the requests that the model answers from now on."""
        # Imported late, to keep torch out of the other flavor's memory.
        from slmflow.measurement.answers.generate_recorder import GenerateRecorder

        pipeline: Any = model.get_raw_model()
        self._predictor, self._model = model, pipeline.model
        self._prompts = PipelinePromptEncoder(pipeline.tokenizer)
        self._takes_prompt = find_interface(model.metadata).takes_prompt
        self._recorder = GenerateRecorder(self._model)

    @property
    def last(self) -> RecordedRequest:
        """The latest request of one row that the model answered."""
        call = self._last_call()
        return RecordedRequest(call.prompt_ids, call.generated_ids, call.first_token_at or 0.0)

    @property
    def is_greedy(self) -> bool:
        """Whether the latest request was answered without drawing tokens at random."""
        return self._settings().is_greedy

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation, or of a prompt, as MLflow and the pipeline make them.

        Raises MlflowException (HTTP 400) if the model cannot read it.
        """
        if not self._takes_prompt:
            self._prompts.encode_chat(
                messages
            )  # MLflow answers 500 where the template rejects them
        with self._recorder.intercepted():
            request_completion(self._predictor, messages)
        prompt = self._last_call().prompt_ids
        self._reject_unreadable(prompt)
        return prompt

    def problem(self, prompt_ids: Sequence[int]) -> str | None:
        """Return why the model cannot read a prompt, or None."""
        try:
            self._reject_unreadable(prompt_ids)
        except MlflowException as error:
            return str(error.message)
        return None

    def generate(self, prompts: Mapping[int, list[int]]) -> Iterator[tuple[int, list[int]]]:
        """Generate greedily, with the arguments of the latest request, in batches.

        prompts: ids by row number. Yields row number and generated ids, with the end token, as rows
        finish. Raises ValueError if the latest request asked for sampling.
        """
        from slmflow.measurement.answers.batched_generation import BatchedGenerator

        call = self._last_call()
        generator = BatchedGenerator(self._model, self._recorder.generate, call.arguments)
        return generator.generate(prompts)

    def completion(self, prompt_ids: Sequence[int], generated_ids: Sequence[int]) -> Completion:
        """Return text, reasoning and token counts, as the GenAI flavor does for the same ids."""
        reasoning = None
        if not self._takes_prompt:
            reasoning = ReasoningSplitter(self._prompts.reasoning.format(prompt_ids))
        text = CompletionText(self._prompts.tokenizer, (), reasoning)
        ends = generated_ids[-1:] and generated_ids[-1] in self._settings().end_tokens
        pieces = [text.push(token) for token in (generated_ids[:-1] if ends else generated_ids)]
        answer = "".join((*pieces, text.flush()))
        return Completion(
            answer.strip() if self._takes_prompt else answer,
            len(prompt_ids),
            len(generated_ids),
            text.take_reasoning(),
        )

    def _last_call(self) -> "GenerateCall":
        if self._recorder.last is None:
            raise RuntimeError("no request has been answered yet")
        return self._recorder.last

    def _settings(self) -> GenerateSettings:
        return GenerateSettings.of_call(self._model, self._last_call().arguments)

    def _reject_unreadable(self, prompt: Sequence[int]) -> None:
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None:
            reject_long(prompt, context)
        reject_empty(prompt)
        reject_unknown_tokens(
            prompt, self._model.get_input_embeddings().num_embeddings, self._prompts.tokenizer
        )
