"""The engine on ONNX Runtime GenAI: batches of requests, one token of each per step."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from ..errors import reject
from .active_request import ActiveRequest
from .adapters import LoadedAdapters
from .checkpoint_settings import CheckpointSettings
from .engine import Prefill, WholePrefill, padded_tokens
from .genai_prefill import RowPrefill
from .guidance import Guidance
from .prefix_cache import LEAST_KEPT, PrefixCache, Reader, saved_tokens

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the runtime is imported
import onnxruntime_genai as og

# More rows hardly speed up two cores, and make each request slower.
MAX_ROWS = 16

# Prompt tokens prefilled at once for several rows, which cannot be read in parts. More are read no
# faster, delay other requests, and need memory that ONNX Runtime's arena never returns.
MAX_PREFILL_TOKENS = 1536

# A generator reserves the KV cache of all its rows up to their greatest length.
MAX_CACHE_BYTES = 2 * 2**30

# What is reserved at first for the new tokens of one row. A completion that outgrows it is
# prefilled again with room for twice as many: a high `max_tokens` costs no memory by itself.
_FIRST_NEW_BYTES, _FIRST_NEW_TOKENS = 256 * 2**20, 1024

# A generator has room for later turns of its conversation: half of the prompt, and these tokens.
_FOLLOW_UP_TOKENS = 256

# What generators of earlier requests may take; a server sets its own limit.
DEFAULT_CACHE_BYTES = 512 * 2**20

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
    """The `Engine` of a model folder. Threads may share it, but only one may prefill and decode.

    cache: the generators of earlier requests.
    """

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
        self.pad_token: int = model["pad_token_id"]
        self._cache_bytes = _cache_bytes_per_token(model["decoder"])
        # Padding would enter the states of convolutions and of linear attention. These cannot be
        # rewound either, nor can a KV cache that GenAI itself limits to a window.
        self._can_pad = "past_conv_names" not in model["decoder"]["inputs"]
        self.can_rewind = self._can_pad and "sliding_window" not in model["decoder"]
        has_longrope = model["type"] in _LONGROPE_TYPES and self.context_length > _LONGROPE_LENGTH
        self.max_shared_length = _LONGROPE_LENGTH if has_longrope else self.context_length
        self._first_new_tokens = max(_FIRST_NEW_BYTES // self._cache_bytes, _FIRST_NEW_TOKENS)
        self.cache: PrefixCache[og.Generator] = PrefixCache(DEFAULT_CACHE_BYTES)
        self._model = _load(folder)
        self._adapters = LoadedAdapters(folder, self._model)
        self.adapters = self._adapters.names

    def can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether these requests fit into one batch."""
        if len(requests) == 1:
            return True
        if any(each.options.guidance or each.replays_end_token for each in requests):
            return False  # guidance applies to the whole generator
        if len({each.options.adapter for each in requests}) > 1:  # so does an adapter
            return False
        new_tokens = max(self._new_tokens(each) for each in requests)
        texts = [each.tokens_to_read for each in requests]
        return self.can_batch_texts(texts, new_tokens, MAX_ROWS)

    def can_batch_texts(
        self, texts: Sequence[Sequence[int]], new_tokens: int, max_rows: int
    ) -> bool:
        """Return whether texts fit into one batch, with up to so many new tokens each."""
        if any(text[-1] == self.pad_token for text in texts):  # it would count as padding
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

    def count_unread(self, requests: Sequence[ActiveRequest]) -> int:
        """Return how many tokens a prefill of these requests reads, padding included."""
        if len(requests) > 1:
            return padded_tokens(requests)
        [request] = requests
        if not self._can_reuse(request):
            return request.read_length
        saved = self.cache.shared_length(request.tokens_to_read, request.options.adapter)
        return request.read_length - saved

    def shared_length(self, request: ActiveRequest, other: ActiveRequest) -> int:
        """Return how many tokens a request need not read if it runs alone after another."""
        if not (self._can_reuse(request) and self._can_reuse(other)):
            return 0
        if request.options.adapter != other.options.adapter:
            return 0
        return saved_tokens(other.tokens_to_read, request.tokens_to_read)

    def start_prefill(self, requests: Sequence[ActiveRequest]) -> Prefill:
        """Begin to read the prompts of a batch: of one request in parts, of several at once."""
        for request in requests:
            request.settled = self._settled(request)
        if len(requests) == 1:
            return RowPrefill(self, requests[0])
        return WholePrefill(requests, lambda: self._prefill_rows(requests))

    def can_split(self, tokens: Sequence[int] | NDArray[np.int32]) -> bool:
        """Return whether a text may be read in parts, with the same result."""
        return self.can_rewind and len(tokens) <= self.max_shared_length

    def open_reader(
        self, request: ActiveRequest, tokens: NDArray[np.int32]
    ) -> Reader[og.Generator]:
        """Return a generator of one row for a request that reads `tokens`.

        It may have read some of them.
        """
        capacity, adapter = len(tokens) + self._new_tokens(request), request.options.adapter
        if self._can_reuse(request):
            if taken := self.cache.take(tokens, capacity, adapter):
                reader, shared = taken
                reader.generator.rewind_to(shared)
                reader.tokens = reader.tokens[:shared]
                return reader
            capacity = self._with_room_for_more(capacity, len(tokens))
        generator, size = self._open_for([request], capacity)
        return Reader(generator, capacity, size, tokens[:0], adapter)

    def decode_row(self, request: ActiveRequest, reader: Reader[og.Generator]) -> "GenaiBatch":
        """Return the batch of a request whose prompt is read."""
        return GenaiBatch(
            reader.generator,
            [request],
            [self._limit(request)],
            lambda is_intact: self.close_reader(request, reader, is_intact),
        )

    def close_reader(
        self, request: ActiveRequest, reader: Reader[og.Generator], is_intact: bool = True
    ) -> None:
        """Keep a generator for later requests, if these can continue it."""
        can_keep = (
            is_intact
            and self._can_reuse(request)
            and reader.generator.token_count() <= self.max_shared_length
        )
        if can_keep:
            self.cache.keep(reader)
        else:
            self.cache.release(reader.size)

    def open_generator(self, rows: int, length: int) -> og.Generator:
        """Return a greedy generator for texts of up to `length` tokens."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=rows, max_length=length, do_sample=False, **_NO_SETTINGS
        )
        return og.Generator(self._model, params)

    def append(self, generator: og.Generator, texts: Sequence[Sequence[int]]) -> None:
        """Read the next tokens of each row, padded on the right."""
        _append(generator, self._pad_rows(texts), self.pad_token)

    def _prefill_rows(self, requests: Sequence[ActiveRequest]) -> "GenaiBatch":
        padded = self._pad_rows([each.tokens_to_read for each in requests])
        new_tokens = max(map(self._new_tokens, requests))
        generator, size = self._open_for(requests, padded.shape[1] + new_tokens)
        try:
            _append(generator, padded, self.pad_token)
        except BaseException:
            self.cache.release(size)
            raise
        limits = [self._limit(each) for each in requests]
        return GenaiBatch(generator, requests, limits, lambda _: self.cache.release(size))

    def _open_for(self, requests: Sequence[ActiveRequest], length: int) -> tuple[og.Generator, int]:
        """Return a generator for requests, and the size of its KV cache in bytes."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=len(requests), max_length=length, **self._search_options(requests[0])
        )
        size = len(requests) * length * self._cache_bytes
        self.cache.reserve(size)
        options = requests[0].options
        try:
            generator = _generator(self._model, params, options.guidance)
            return self._adapters.activate(options.adapter, generator), size
        except BaseException:
            self.cache.release(size)
            raise

    def _can_reuse(self, request: ActiveRequest) -> bool:
        """Return whether a request may continue a kept generator, and leave one."""
        return (
            self.cache.max_bytes > 0
            and self.can_split(request.tokens_to_read)
            and request.options.guidance is None  # part of the generator
        )

    def _with_room_for_more(self, capacity: int, prompt: int) -> int:
        """Return a capacity for the next turns of a conversation, too, if it may be kept."""
        if prompt < LEAST_KEPT:
            return capacity
        roomy = min(capacity + prompt // 2 + _FOLLOW_UP_TOKENS, self.context_length)
        return roomy if roomy * self._cache_bytes <= self.cache.max_bytes else capacity

    def _limit(self, request: ActiveRequest) -> int:
        """Return how many generated tokens a request may have before it is prefilled again."""
        limit = self._first_new_tokens
        while limit <= len(request.generated):
            limit *= 2
        return limit

    def _settled(self, request: ActiveRequest) -> int:
        """Return how many of the generated tokens are prefilled rather than replayed.

        It depends on their number only, so that every restart gives the same logits. Guidance has
        to see all tokens, and echoed ones need the logits of each.
        """
        limit = self._limit(request)
        must_replay = request.options.guidance or request.options.logprobs is not None
        return 0 if must_replay or limit == self._first_new_tokens else limit // 2

    def _new_tokens(self, request: ActiveRequest) -> int:
        """Return how many tokens are reserved after those that are prefilled."""
        return min(request.max_new_tokens, self._limit(request)) - request.settled

    def _pad_rows(self, texts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        padded = np.full((len(texts), max(map(len, texts))), self.pad_token, dtype=np.int32)
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

    def __init__(
        self,
        generator: og.Generator,
        requests: Sequence[ActiveRequest],
        limits: Sequence[int],
        on_close: Callable[[bool], None],
    ) -> None:
        """Continue a generator that has read the prompt of each request.

        limits: how many generated tokens each request has room for. on_close: called at the end,
        with whether all steps have succeeded.
        """
        self.requests = list(requests)
        self._generator, self._limits, self._on_close = generator, limits, on_close
        self._steps = 0
        self._is_intact = True

    @property
    def is_full(self) -> bool:
        """Whether an unfinished request has no room for its next token."""
        return any(
            not request.finished and len(request.generated) >= limit
            for request, limit in zip(self.requests, self._limits, strict=True)
        )

    def close(self) -> None:
        """End the batch. Later requests may continue a generator of one row."""
        self._on_close(self._is_intact)

    def step(self) -> None:
        """Decode the next token of each unfinished request, or replay one."""
        self._is_intact = False
        self._step()
        self._is_intact = True

    def _step(self) -> None:
        logits: NDArray[np.float32] | None = None
        if not all(
            request.finished or (request.is_plain_greedy and not self._is_replaying(request))
            for request in self.requests
        ):
            logits = self._generator.get_logits()
        tokens = self._next_tokens(logits)
        places = [self._place(each) for each in self.requests]
        self._steps += 1
        for row, (request, place) in enumerate(zip(self.requests, places, strict=True)):
            own = None if logits is None else logits[row, -1]
            if request.finished:
                continue
            if place < len(request.generated):
                request.read_replayed(place, own)
            else:
                request.append_token(int(tokens[row]), own)

    def _next_tokens(self, logits: NDArray[np.float32] | None) -> Sequence[int]:
        """Add the next token of each row: ours, or without logits the most likely one."""
        first = self.requests[0]
        if first.replays_end_token and self._is_replaying(first):
            # As a generated token it would end the row. Such a request has a batch of its own.
            token = first.generated[self._place(first)]
            self._generator.append_tokens(np.array([[token]], dtype=np.int32))
            return [token]
        if logits is not None:
            self._generator.set_logits(self._forced_logits(logits))
        self._generator.generate_next_token()
        return self._generator.get_next_tokens()  # type: ignore[no-any-return]

    def _place(self, request: ActiveRequest) -> int:
        """Return the index, among the generated tokens, of the next one."""
        return request.settled + self._steps

    def _is_replaying(self, request: ActiveRequest) -> bool:
        return self._place(request) < len(request.generated)

    def _forced_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits, float32[rows, 1, vocabulary], that make GenAI choose our tokens."""
        forced = np.full_like(logits, np.finfo(np.float32).min)
        for row, request in enumerate(self.requests):
            if self._is_replaying(request):
                forced[row, -1, request.generated[self._place(request)]] = 0
            elif request.options.guidance:  # GenAI has yet to mask and choose
                forced[row, -1] = _possible(
                    request.sampler.process(logits[row, -1]), logits[row, -1]
                )
                if request.json_ending:
                    request.json_ending.favor(forced[row, -1])
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
