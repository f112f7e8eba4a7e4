"""A loaded MLflow model that continues plain texts, of either flavor of ours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from mlflow.pyfunc import PyFuncModel
from tokenizers import Tokenizer

from slmflow.checkpoints.chat_template import default_template
from slmflow.checkpoints.files import TOKENIZER_CONFIG, read_json_object
from slmflow.errors import UserError
from slmflow.measurement.answers.session import SessionClient
from slmflow.measurement.scoring.token_scoring import TokenScore, TokenScorer, find_token_scorer
from slmflow.runtime import protocol
from slmflow.runtime.prompts.message_encoder import encode_document
from slmflow.runtime.prompts.template import ChatTemplate

# What the runtime accepts; further ones only cut the finished text.
_MAX_STOP_STRINGS = 64


@dataclass(frozen=True)
class TextOptions:
    """How texts are continued; temperature: 0 is greedy."""

    stop: tuple[str, ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


class TextModel(Protocol):
    """A model with its tokenizer.

    bos_token, end_token: the token ids that the tokenizer names; None if it names none.
    """

    tokenizer: Tokenizer
    bos_token: int | None
    end_token: int | None
    context_length: int

    @property
    def takes_messages(self) -> bool:
        """Whether the model has a chat template."""

    def render(self, messages: Sequence[Mapping[str, str]], begins_answer: bool) -> str:
        """Return the text of a conversation.

        begins_answer: whether the model's answer begins after it; else it continues the last
        message.
        """

    def score(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[tuple[int, TokenScore]]:
        """Yield the number of each pair of context and continuation with its score."""

    def generate(self, prompts: Sequence[str], options: TextOptions) -> Iterator[tuple[int, str]]:
        """Yield the number of each prompt with its continuation, in any order."""


def load(model: PyFuncModel, folder: Path) -> TextModel:
    """Return a loaded model from its folder. Raises UserError for a model that takes no texts."""
    scorer = find_token_scorer(model)
    if scorer is None:
        raise UserError(
            "it does not score tokens, as models do that slmflow or MLflow's transformers flavor "
            "logged: evaluate it on rows, with evaluation.data=FILE"
        )
    if "transformers" in model.metadata.flavors:
        return PipelineTextModel(model.get_raw_model(), scorer)
    return SessionTextModel(model, scorer, folder)


class PipelineTextModel:
    """The model of a transformers pipeline."""

    def __init__(self, pipeline: Any, scorer: TokenScorer) -> None:
        """Use a loaded pipeline."""
        self._model, self._tokenizer = pipeline.model, pipeline.tokenizer
        self.bos_token = self._tokenizer.bos_token_id
        self.end_token = self._tokenizer.eos_token_id
        self.tokenizer = scorer.tokenizer
        self.context_length, self.score = scorer.context_length, scorer.score

    @property
    def takes_messages(self) -> bool:
        """Whether the model has a chat template."""
        return bool(default_template(self._tokenizer))

    def render(self, messages: Sequence[Mapping[str, str]], begins_answer: bool) -> str:
        """Return the text of a conversation."""
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=begins_answer,
            continue_final_message=not begins_answer,
        )
        return text

    def generate(self, prompts: Sequence[str], options: TextOptions) -> Iterator[tuple[int, str]]:
        """Yield the number of each prompt with its continuation, in any order."""
        # Imported late, to keep torch out of the other flavor's memory.
        from slmflow.measurement.answers.batched_generation import BatchedGenerator

        encoded = [encode_document(self.tokenizer, prompt) for prompt in prompts]
        arguments = self._arguments(options)
        if options.temperature:
            generated = self._sample(encoded, arguments, options.seed)
        else:
            generator = BatchedGenerator(self._model, self._model.generate, arguments)
            generated = generator.generate(dict(enumerate(encoded)))
        for number, ids in generated:
            yield (
                number,
                self._tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                ),
            )

    def _arguments(self, options: TextOptions) -> dict[str, Any]:
        """Return the keyword arguments of `generate`."""
        sampling: dict[str, float | None] = dict.fromkeys(("temperature", "top_p", "top_k"))
        if options.temperature:
            sampling = {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
        stop = {"stop_strings": list(options.stop), "tokenizer": self._tokenizer}
        return {
            "max_new_tokens": options.max_new_tokens,
            "do_sample": bool(options.temperature),
            "pad_token_id": self._pad_token,
            **sampling,
            **(stop if options.stop else {}),
        }

    def _sample(
        self, prompts: Sequence[list[int]], arguments: Mapping[str, Any], seed: int | None
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of each prompt with sampled ids, each prompt with its own seed."""
        import torch
        from transformers import set_seed

        for number, prompt in enumerate(prompts):
            if seed is not None:
                set_seed(seed + number)
            ids = torch.tensor([prompt], device=self._model.device)
            output = self._model.generate(ids, attention_mask=torch.ones_like(ids), **arguments)
            yield number, output[0, len(prompt) :].tolist()

    @property
    def _pad_token(self) -> int:
        config = self._model.generation_config
        end = config.eos_token_id
        first_end = end[0] if isinstance(end, list) else end
        return int(first_end if config.pad_token_id is None else config.pad_token_id)


class SessionTextModel:
    """A model that slmflow's runtime runs, whose scheduler forms the batches."""

    def __init__(self, model: PyFuncModel, scorer: TokenScorer, folder: Path) -> None:
        """Use a model loaded from the folder of an MLflow model."""
        files = folder / _artifact(folder)
        self._template = ChatTemplate(files)
        self._variables = (model.model_config or {}).get("template") or {}
        self.tokenizer, self.context_length = scorer.tokenizer, scorer.context_length
        self.score = scorer.score
        settings = read_json_object(files / TOKENIZER_CONFIG, str(files))
        self.bos_token, self.end_token = (
            _token_id(self.tokenizer, settings.get(name)) for name in ("bos_token", "eos_token")
        )
        self._client = SessionClient(model)

    @property
    def takes_messages(self) -> bool:
        """Whether the model has a chat template."""
        return self._client.takes_messages

    def render(self, messages: Sequence[Mapping[str, str]], begins_answer: bool) -> str:
        """Return the text of a conversation."""
        text = self._template.render(messages, self._variables, add_generation_prompt=begins_answer)
        if begins_answer:
            return text
        last = messages[-1]["content"].strip()
        return text[: text.rindex(last) + len(last)]

    def generate(self, prompts: Sequence[str], options: TextOptions) -> Iterator[tuple[int, str]]:
        """Yield the number of each prompt with its continuation, in any order."""
        requests = {
            number: _build_request(number, prompt, options) for number, prompt in enumerate(prompts)
        }
        for event in self._client.send(requests):
            if event["type"] != "finished":
                raise UserError(f"a task's prompt was not answered: {event['message']}")
            yield event["id"], event["text"]


def _build_request(number: int, prompt: str, options: TextOptions) -> protocol.Request:
    body: dict[str, Any] = {
        "prompt": prompt,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
    }
    if options.stop:
        body["stop"] = list(options.stop[:_MAX_STOP_STRINGS])
    if options.seed is not None:
        body["seed"] = options.seed + number
    return {"type": "completion", "body": body}


def _artifact(folder: Path) -> str:
    model = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    return str(model["flavors"]["python_function"]["artifacts"]["model"]["path"])


def _token_id(tokenizer: Tokenizer, token: Any) -> int | None:
    """Return the id of a token of a tokenizer's config: a text, or an object with its content."""
    text = token.get("content") if isinstance(token, Mapping) else token
    number: int | None = tokenizer.token_to_id(text) if isinstance(text, str) else None
    return number
