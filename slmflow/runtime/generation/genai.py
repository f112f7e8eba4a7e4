"""The engine on ONNX Runtime GenAI: batches of requests, one token of each per step."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from ..errors import reject
from .active_request import ActiveRequest
from .checkpoint_settings import CheckpointSettings
from .guidance import Guidance

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the runtime is imported
import onnxruntime_genai as og

# More rows hardly speed up two cores, and make each request slower.
MAX_ROWS = 16

# Prompt tokens prefilled at once for several rows. More are read no faster, delay the requests that
# are decoding, and need memory that ONNX Runtime's arena never returns.
MAX_PREFILL_TOKENS = 1536

# A generator reserves the KV cache of all its rows up to their greatest length.
MAX_CACHE_BYTES = 2 * 2**30

# Settings of genai_config.json that the sampler applies, or that this engine does not support.
_NO_SETTINGS = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
}

# Far more than logits differ.
_FORBIDDEN = np.float32(1000)

# These types have other rotary factors beyond this length, so their KV cache is recomputed where a
# text grows beyond it. GenAI 0.15 does that for a single row only.
_LONGROPE_TYPES, _LONGROPE_LENGTH = ("phi3", "phimoe"), 4096


class GenaiEngine:
    """The `Engine` of a model folder. It has no mutable state, so threads may share it."""

    supports_guidance = True

    def __init__(self, folder: Path) -> None:
        """Load the folder with `genai_config.json`. The weights are memory-mapped."""
        config = json.loads((folder / "genai_config.json").read_text("utf-8"))
        model = config["model"]
        end_tokens = model["eos_token_id"]
        self.end_tokens = frozenset(end_tokens if isinstance(end_tokens, list) else [end_tokens])
        self.context_length: int = model["context_length"]
        self.vocabulary_size: int = model["vocab_size"]
        self.settings = CheckpointSettings.read(folder, self.vocabulary_size)
        self.defaults: dict[str, Any] = self.settings.request_defaults()
        self._pad: int = model["pad_token_id"]
        self._cache_bytes = _cache_bytes_per_token(model["decoder"])
        # Padding would enter the states of convolutions and of linear attention. These cannot be
        # rewound either, nor can a KV cache that GenAI itself limits to a window.
        self._can_pad = "past_conv_names" not in model["decoder"]["inputs"]
        self.can_rewind = self._can_pad and "sliding_window" not in model["decoder"]
        has_longrope = model["type"] in _LONGROPE_TYPES and self.context_length > _LONGROPE_LENGTH
        self.max_shared_length = _LONGROPE_LENGTH if has_longrope else self.context_length
        self._model = _load(folder)

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether these requests fit into one batch."""
        if len(requests) == 1:
            return True
        if any(each.options.guidance for each in requests):  # it applies to the whole generator
            return False
        new_tokens = max(each.max_new_tokens for each in requests)
        prompts = [each.prompt for each in requests]
        return self.can_batch_texts(prompts, new_tokens, MAX_ROWS)

    def can_batch_texts(
        self, texts: Sequence[Sequence[int]], new_tokens: int, max_rows: int
    ) -> bool:
        """Return whether texts fit into one batch, with up to so many new tokens each."""
        if any(text[-1] == self._pad for text in texts):  # it would count as padding
            return False
        if not self._can_pad and len(set(map(len, texts))) > 1:
            return False
        longest = max(map(len, texts))
        reserved = longest + new_tokens
        return bool(
            len(texts) <= max_rows
            and len(texts) * longest <= MAX_PREFILL_TOKENS
            and reserved <= self.max_shared_length
            and len(texts) * reserved * self._cache_bytes <= MAX_CACHE_BYTES
        )

    def prefill(self, requests: Sequence[ActiveRequest]) -> "GenaiBatch":
        """Read the prompts and return their batch."""
        padded = self._pad_rows([each.prompt for each in requests])
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=len(requests),
            max_length=padded.shape[1] + max(each.max_new_tokens for each in requests),
            **self._search_options(requests[0]),
        )
        generator = _generator(self._model, params, requests[0].options.guidance)
        _append(generator, padded, self._pad)
        return GenaiBatch(generator, requests)

    def open_generator(self, rows: int, length: int) -> og.Generator:
        """Return a greedy generator for texts of up to `length` tokens."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=rows, max_length=length, do_sample=False, **_NO_SETTINGS
        )
        return og.Generator(self._model, params)

    def append(self, generator: og.Generator, texts: Sequence[Sequence[int]]) -> None:
        """Read the next tokens of each row, padded on the right."""
        _append(generator, self._pad_rows(texts), self._pad)

    def _pad_rows(self, texts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        padded = np.full((len(texts), max(map(len, texts))), self._pad, dtype=np.int32)
        for row, text in zip(padded, texts, strict=True):
            row[: len(text)] = text
        return padded

    def _search_options(self, request: ActiveRequest) -> dict[str, Any]:
        """Return GenAI's sampling options. It samples itself only where guidance masks tokens."""
        options = request.options
        if options.guidance is None or options.is_greedy:
            return {"do_sample": False, **_NO_SETTINGS}
        return {
            "do_sample": True,
            **_NO_SETTINGS,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": min(options.top_k, self.vocabulary_size),
            "random_seed": -1 if options.seed is None else options.seed % 2**31,
        }


class GenaiBatch:
    """The rows of one generator. The row of a finished request stays, and is ignored.

    Tokens that a request has already generated are replayed in single steps rather than prefilled
    with the prompt: attention rounds differently in prefill, and the completion could change.
    """

    def __init__(self, generator: og.Generator, requests: Sequence[ActiveRequest]) -> None:
        """Continue a generator that has read the prompt of each request."""
        self.requests = list(requests)
        self._generator = generator
        self._steps = 0

    def step(self) -> None:
        """Decode the next token of each unfinished request, or replay one."""
        if not all(
            request.finished or (request.is_plain_greedy and not self._is_replaying(request))
            for request in self.requests
        ):
            self._generator.set_logits(self._forced_logits(self._generator.get_logits()))
        self._generator.generate_next_token()
        decoding = [not (each.finished or self._is_replaying(each)) for each in self.requests]
        self._steps += 1
        tokens = self._generator.get_next_tokens()
        for request, token, is_decoding in zip(self.requests, tokens, decoding, strict=True):
            if is_decoding:
                request.append_token(int(token))

    def _is_replaying(self, request: ActiveRequest) -> bool:
        return self._steps < len(request.generated)

    def _forced_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits, float32[rows, 1, vocabulary], that make GenAI choose our tokens."""
        forced = np.full_like(logits, np.finfo(np.float32).min)
        for row, request in enumerate(self.requests):
            if self._is_replaying(request):
                forced[row, -1, request.generated[self._steps]] = 0
            elif request.options.guidance:  # GenAI has yet to mask and choose
                forced[row, -1] = _possible(
                    request.sampler.process(logits[row, -1]), logits[row, -1]
                )
            elif not request.finished:
                forced[row, -1, request.sampler.choose(logits[row, -1])] = 0
        return forced


def _load(folder: Path) -> og.Model:
    """Load the model with one thread for each CPU that this process may use.

    By default the runtime uses half the CPUs of a virtual machine, and in a container all CPUs of
    the host.
    """
    config = og.Config(str(folder))
    options = {"intra_op_num_threads": cpu_count()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return og.Model(config)


def _append(generator: og.Generator, rows: NDArray[np.int32], pad: int) -> None:
    """Prefill rows. GenAI treats a final pad token as padding, unless it comes alone."""
    if len(rows) == 1 and rows.shape[1] > 1 and rows[0, -1] == pad:
        generator.append_tokens(rows[:, :-1])
        rows = rows[:, -1:]
    generator.append_tokens(rows)


def _generator(
    model: og.Model, params: og.GeneratorParams, guidance: Guidance | None
) -> og.Generator:
    if guidance is None:
        return og.Generator(model, params)
    try:
        params.set_guidance(guidance.kind, guidance.text)
        return og.Generator(model, params)
    except RuntimeError as error:
        param = guidance.param
        reject(f"{param}: the runtime does not support this schema: {error}", param=param)


def _possible(processed: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return processed logits where forbidden tokens remain possible, if barely.

    Guidance may allow no other: only the end token after the last brace, for example.
    """
    return np.where(np.isneginf(processed), logits - _FORBIDDEN, processed)


def _cache_bytes_per_token(decoder: dict[str, Any]) -> int:
    """Return the largest size of one token's keys and values: in fp32."""
    heads, size = decoder["num_key_value_heads"], decoder["head_size"]
    return int(2 * 4 * decoder["num_hidden_layers"] * heads * size)
