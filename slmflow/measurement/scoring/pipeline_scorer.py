"""Score token ids with a transformers pipeline: in batches, each shared prefix once.

Texts of a batch are padded on the right. Attention is causal, so padding after a text changes none
of its logits, and no mask is needed. The keys and values of a shared prefix are computed once and
repeated for each batch. Logits are computed at the positions that are scored only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mlflow.pyfunc import PyFuncModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from slmflow.conversion import rotary
from slmflow.flavors.chat_interfaces import find_interface
from slmflow.flavors.pipeline_prompts import PipelinePromptEncoder
from slmflow.measurement.scoring import prefix_tree
from slmflow.measurement.scoring.prefix_tree import SharedPrefix
from slmflow.measurement.scoring.token_scoring import TokenScore
from slmflow.runtime import likelihood
from slmflow.runtime.prompts.message_encoder import Message
from slmflow.runtime.readings import Reading, TokenPair, common_length, readings_of

# More tokens in a batch are read no faster.
_MAX_BATCH_TOKENS = 2048

# For the keys and values of a batch, and for its logits. A single text may need more.
_MAX_CACHE_BYTES = _MAX_LOGITS_BYTES = 2**29

# The logits in float32, as the model computes them and while their softmax is taken.
_BYTES_PER_LOGIT = 12


class PipelineScorer:
    """The `TokenScorer` of a model of the transformers flavor."""

    def __init__(self, model: PyFuncModel) -> None:
        """Use the pipeline of a loaded model."""
        pipeline = model.get_raw_model()
        self._model = pipeline.model
        self._prompts = PipelinePromptEncoder(pipeline.tokenizer)
        if find_interface(model.metadata).takes_prompt:
            self._prompts.takes_messages = False
        self._traits = _Traits.of(self._model)
        self.tokenizer = self._prompts.tokenizer
        self.context_length = self._traits.context_length

    def encode(self, messages: Sequence[Message], answer: str) -> TokenPair:
        """Return the token ids of a conversation and of an answer; see `TokenScorer`."""
        pair = likelihood.encode_answer(self._prompts, messages, answer)
        self._check(pair)
        return pair

    def score(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, TokenScore]]:
        """Yield the index of each pair with its score; see `TokenScorer`."""
        for pair in pairs:
            self._check(pair)
        return self._score(pairs)

    def _check(self, pair: TokenPair) -> None:
        vocabulary_size = self._model.get_input_embeddings().num_embeddings
        likelihood.reject_unscorable(*pair, self.context_length, vocabulary_size, self.tokenizer)

    def _score(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, TokenScore]]:
        parts = _Parts(pairs, self._traits.max_positions)
        for index in parts.empty:
            yield index, TokenScore(0.0, is_greedy=True)
        reader = _Reader(self._model, self._traits)
        for number, score in reader.read(readings_of(enumerate(parts.pairs))):
            if finished := parts.add(number, score):
                yield finished


class _Parts:
    """Pairs split into parts of so few tokens that the logits of one part fit into memory.

    The context of a further part is the text up to it.
    """

    def __init__(self, pairs: Sequence[TokenPair], max_tokens: int) -> None:
        self.pairs: list[TokenPair] = []
        self.empty = [index for index, (_, continuation) in enumerate(pairs) if not continuation]
        self._indices: list[int] = []
        self._scores: dict[int, list[TokenScore]] = {}
        self._counts: dict[int, int] = {}
        for index, (context, continuation) in enumerate(pairs):
            starts = range(0, len(continuation), max_tokens)
            self._counts[index] = len(starts)
            self._indices += [index] * len(starts)
            self.pairs += [
                ([*context, *continuation[:start]], continuation[start : start + max_tokens])
                for start in starts
            ]

    def add(self, number: int, score: TokenScore) -> tuple[int, TokenScore] | None:
        """Add the score of a part; return the index and the score of a pair that is complete."""
        index = self._indices[number]
        scores = self._scores.setdefault(index, [])
        scores.append(score)
        if len(scores) < self._counts[index]:
            return None
        del self._scores[index]
        logprob = sum(each.logprob for each in scores)
        return index, TokenScore(logprob, all(each.is_greedy for each in scores))


@dataclass(frozen=True)
class _Traits:
    """What decides how texts may be read together.

    can_share: whether all of the model's memory is keys and values, which can be cut and repeated;
    max_shared_length: longer texts are read alone; max_positions: of one batch whose logits fit
    into memory; cache_bytes: of the keys and values of a token.
    """

    context_length: int
    can_share: bool
    max_shared_length: int
    max_positions: int
    cache_bytes: int

    @classmethod
    def of(cls, model: Any) -> "_Traits":
        config = model.config.get_text_config(decoder=True)
        context_length = int(config.max_position_embeddings)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        vocabulary_size = model.get_output_embeddings().weight.shape[0]
        return cls(
            context_length,
            _has_only_attention(model, config),
            rotary.constant_length(config) or context_length,
            max(1, _MAX_LOGITS_BYTES // (_BYTES_PER_LOGIT * vocabulary_size)),
            2 * config.num_hidden_layers * heads * size * model.dtype.itemsize,
        )


def _has_only_attention(model: Any, config: Any) -> bool:
    """Return whether each layer of a model remembers keys and values of its own, and no more."""
    if not model._supports_default_dynamic_cache() or getattr(config, "num_kv_shared_layers", None):
        return False
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        return False
    layers = DynamicCache(config=config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class _Reader:
    """Reads texts with a model, those that begin alike one after another."""

    def __init__(self, model: Any, traits: _Traits) -> None:
        self._model, self._traits = model, traits
        self._states = _States()

    def read(self, readings: Sequence[Reading]) -> Iterator[tuple[int, TokenScore]]:
        """Yield the number of each pair with its score."""
        traits = self._traits
        shared = [each for each in readings if len(each.tokens) <= traits.max_shared_length]
        alone = [each for each in readings if len(each.tokens) > traits.max_shared_length]
        tree = prefix_tree.build(shared, can_share=traits.can_share)
        for prefix in tree.walk():
            self._extend(prefix)
            for batch in self._batches(prefix):
                yield from self._read(prefix, batch)
        for reading in alone:
            yield from self._read(SharedPrefix(), [reading])

    def _batches(self, prefix: SharedPrefix) -> Iterator[list[Reading]]:
        """Yield the readings after a prefix, by length, in batches that fit into memory."""
        batch: list[Reading] = []
        for reading in prefix.readings:
            if batch and not self._fits(prefix, [*batch, reading]):
                yield batch
                batch = []
            batch.append(reading)
        if batch:
            yield batch

    def _fits(self, prefix: SharedPrefix, batch: Sequence[Reading]) -> bool:
        traits, length = self._traits, len(batch[-1].tokens)
        if not traits.can_share and length != len(batch[0].tokens):
            return False
        return (
            len(batch) * (length - len(prefix.tokens)) <= _MAX_BATCH_TOKENS
            and len(batch) * length * traits.cache_bytes <= _MAX_CACHE_BYTES
            and sum(reading.positions for reading in batch) <= traits.max_positions
        )

    def _extend(self, prefix: SharedPrefix) -> None:
        """Read what a prefix has beyond the one before it."""
        kept = self._states.cut(prefix.tokens)
        if kept < len(prefix.tokens):
            cache = self._states.repeat(1)
            self._forward([prefix.tokens[kept:]], [], cache)
            self._states = _States(prefix.tokens, cache)

    def _read(
        self, prefix: SharedPrefix, batch: Sequence[Reading]
    ) -> Iterator[tuple[int, TokenScore]]:
        start = len(prefix.tokens)
        positions = [
            (row, position - start)
            for row, reading in enumerate(batch)
            for position in range(reading.first, len(reading.tokens))
        ]
        cache = self._states.repeat(len(batch)) if start else None
        logits = self._forward([reading.tokens[start:] for reading in batch], positions, cache)
        for reading, own in zip(
            batch, logits.split([reading.positions for reading in batch]), strict=True
        ):
            yield from _scores(reading, own)

    def _forward(
        self,
        texts: Sequence[Sequence[int]],
        positions: Sequence[tuple[int, int]],
        cache: DynamicCache | None,
    ) -> torch.Tensor:
        """Return the logits at positions (row, column), float32[positions, vocabulary]."""
        longest = max(map(len, texts))
        rows = [[*text, *[0] * (longest - len(text))] for text in texts]
        ids = torch.tensor(rows, device=self._model.device)
        with torch.inference_mode(), _only_at(self._model, positions):
            out = self._model(ids, past_key_values=cache, use_cache=cache is not None)
            return out.logits[0].float()  # type: ignore[no-any-return]


class _States:
    """The keys and values of a text, of one row."""

    def __init__(self, tokens: Sequence[int] = (), cache: DynamicCache | None = None) -> None:
        self._tokens = tokens
        layers: list[Any] = cache.layers if cache else []
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = [
            (layer.keys, layer.values) for layer in layers
        ]

    def cut(self, tokens: Sequence[int]) -> int:
        """Forget all after the tokens that another text shares, and return their number."""
        length = common_length(self._tokens, tokens)
        self._tokens = self._tokens[:length]
        self._layers = [(k[..., :length, :], v[..., :length, :]) for k, v in self._layers]
        return length

    def repeat(self, rows: int) -> DynamicCache:
        """Return a cache with these states in each row.

        All are kept in layers with a window too, so that they can be cut; the attention mask limits
        what is seen.
        """
        cache = DynamicCache()
        for keys, values in self._layers if self._tokens else ():
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = (  # views: the layer copies them when it grows
                each.expand(rows, -1, -1, -1) for each in (keys, values)
            )
            cache.layers.append(layer)
        return cache


@contextmanager
def _only_at(model: Any, positions: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Make a model compute its logits at positions (row, column) only, as those of one row."""
    rows, columns = (list(each) for each in zip(*positions, strict=True)) if positions else ([], [])

    def select(head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0][rows, columns].unsqueeze(0),)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _scores(reading: Reading, logits: torch.Tensor) -> Iterator[tuple[int, TokenScore]]:
    """Yield the pairs of a text with their scores, from its logits, float32[positions, vocabulary].

    The logits at a position predict the next token.
    """
    normalizers, best = logits.logsumexp(dim=-1), logits.argmax(dim=-1)
    for number, (context, continuation) in reading.pairs.items():
        start = len(context) - 1 - reading.first
        own = slice(start, start + len(continuation))
        targets = torch.tensor(continuation, device=logits.device)
        chosen = logits[own].gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        logprob = (chosen - normalizers[own]).double().sum()
        yield number, TokenScore(float(logprob), bool((best[own] == targets).all()))
