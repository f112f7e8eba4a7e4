"""Generate greedily for many prompts by few calls of transformers' `generate`.

Every call has the keyword arguments of a recorded one; only the prompts are others. A row gets the
tokens it gets alone, except that sums in another order may decide between two tokens of almost
equal logits.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, StopStringCriteria
from transformers.generation.stopping_criteria import EosTokenCriteria

from slmflow.conversion import rotary
from slmflow.measurement.answers.generate_settings import Batching, GenerateSettings
from slmflow.measurement.answers.shared_prefix import SharedPrefix

_MAX_ROWS = 256

# Of one batch. The logits exist in a few copies at a time.
_MAX_CACHE_BYTES = 2**30
_MAX_LOGITS_BYTES = 2**27
_FLOAT_BYTES = 4

# A call ends when at most this part of its rows is unfinished, and another goes on with these. That
# costs a copy of their cache.
_UNFINISHED_PART = 0.9

Generated = Iterator[tuple[int, list[int]]]
"""Row numbers with the generated ids."""


class BatchedGenerator:
    """Generates with a model and the keyword arguments of one recorded call of its `generate`."""

    def __init__(
        self, model: Any, generate: Callable[..., Any], arguments: Mapping[str, Any]
    ) -> None:
        """Use the model's own `generate`. Raises ValueError if the arguments ask for sampling."""
        self._model, self._generate, self._arguments = model, generate, dict(arguments)
        self._settings = GenerateSettings.of_call(model, arguments)
        if not self._settings.is_greedy:
            raise ValueError("batches are generated greedily, but the arguments ask for sampling")
        forward = inspect.signature(model.forward).parameters
        self._accepts_positions = "position_ids" in forward
        self._keeps_last_logits = "logits_to_keep" in forward
        text = model.config.get_text_config(decoder=True)
        self._constant_length = rotary.constant_length(text) or sys.maxsize

    def generate(self, prompts: Mapping[int, list[int]]) -> Generated:
        """Yield row number and generated ids, with the end token, as rows finish.

        prompts: token ids by row number; none empty.
        """
        if not prompts:
            return
        prefix = SharedPrefix.read(self._model, list(prompts.values()))
        kinds: dict[Batching, dict[int, list[int]]] = {kind: {} for kind in Batching}
        for row in sorted(prompts, key=lambda row: -len(prompts[row])):
            kinds[self._batching(prompts[row], prefix)][row] = prompts[row]
        for batch in self._split(kinds[Batching.PADDED], prefix):
            yield from self._generate_padded(batch, prefix)
        for _, rows in groupby(kinds[Batching.EQUAL_LENGTHS].items(), lambda row: len(row[1])):
            for batch in self._split(dict(rows), prefix):
                yield from self._generate_equal(batch)
        for row, prompt in kinds[Batching.ALONE].items():
            yield from self._generate_alone(row, prompt)

    def _batching(self, prompt: Sequence[int], prefix: SharedPrefix) -> Batching:
        """Return how a prompt may be batched: by the settings, the model, and its length."""
        batching = self._settings.batching
        if batching is not Batching.PADDED:
            return batching
        tokens = len(prompt) + self._settings.max_new_tokens(len(prompt))
        # A stop string is looked for in the last tokens, which must not be padding.
        reach = max(map(len, self._settings.stop_strings), default=0)
        is_exact = (
            self._accepts_positions
            and prefix.has_plain_cache
            and tokens <= self._constant_length
            and len(prompt) - prefix.tokens >= reach
        )
        return Batching.PADDED if is_exact else Batching.EQUAL_LENGTHS

    def _split(
        self, prompts: Mapping[int, list[int]], prefix: SharedPrefix
    ) -> Iterator[dict[int, list[int]]]:
        """Yield prompts, given the longest first, in batches that memory has room for."""
        vocabulary = self._model.get_output_embeddings().weight.shape[0]
        rows = list(prompts)
        while rows:
            longest = len(prompts[rows[0]])
            tokens = longest + self._settings.max_new_tokens(longest)
            cache = max(prefix.bytes_per_token * tokens, 1)
            logits = vocabulary * _FLOAT_BYTES * (1 if self._keeps_last_logits else longest)
            size = max(min(_MAX_ROWS, _MAX_CACHE_BYTES // cache, _MAX_LOGITS_BYTES // logits), 1)
            yield {row: prompts[row] for row in rows[:size]}
            del rows[:size]

    def _generate_padded(self, prompts: Mapping[int, list[int]], prefix: SharedPrefix) -> Generated:
        """Generate for a batch; go on without its finished rows whenever these are many."""
        rows, limit = list(prompts), self._settings.max_new_tokens(0)
        longest = max(map(len, prompts.values()))
        shared = prefix.tokens if prefix.fits_windows(longest + limit) else 0
        ids, mask = self._pad(list(prompts.values()), shared)
        cache = prefix.repeat(len(rows)) if shared else None
        before = 0
        while rows:
            progress = _Progress(self._endings(), ids, int(len(rows) * _UNFINISHED_PART))
            output = self._generate(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                stopping_criteria=[progress],
                return_dict_in_generate=True,
                **self._arguments | self._settings.remaining_limits(before),
            )
            texts = output.sequences[:, longest:].tolist()
            after = len(texts[0])
            for row, text, length in zip(rows, texts, progress.lengths, strict=True):
                if length is not None or after == limit:
                    yield row, text if length is None else text[: before + length]
            going_on = progress.unfinished.nonzero().flatten()
            rows = [] if after == limit else [rows[index] for index in going_on.tolist()]
            mask = torch.cat([mask, mask.new_ones(len(mask), after - before)], dim=1)[going_on]
            ids, cache, before = output.sequences[going_on], output.past_key_values, after
            cache.batch_select_indices(going_on)

    def _generate_equal(self, prompts: Mapping[int, list[int]]) -> Generated:
        """Generate for prompts of one length, in one call."""
        ids, mask = self._pad(list(prompts.values()), 0)
        progress = _Progress(self._endings(), ids, 0)
        output = self._generate(
            input_ids=ids, attention_mask=mask, stopping_criteria=[progress], **self._arguments
        )
        texts = output[:, ids.shape[1] :].tolist()
        for row, text, length in zip(prompts, texts, progress.lengths, strict=True):
            yield row, text[:length]

    def _generate_alone(self, row: int, prompt: list[int]) -> Generated:
        """Generate for one prompt by a call that is the recorded one but for it."""
        ids, mask = self._pad([prompt], 0)
        output = self._generate(input_ids=ids, attention_mask=mask, **self._arguments)
        yield row, getattr(output, "sequences", output)[0, len(prompt) :].tolist()

    def _pad(self, prompts: Sequence[list[int]], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and attention mask, int64[rows, tokens], padded after the shared tokens.

        The padding repeats the row's first token: a repetition penalty then sees no other tokens.
        """
        longest = max(map(len, prompts))
        ids, mask = [], []
        for prompt in prompts:
            padding = longest - len(prompt)
            ids.append(prompt[:shared] + prompt[:1] * padding + prompt[shared:])
            mask.append([1] * shared + [0] * padding + [1] * (len(prompt) - shared))
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _endings(self) -> StoppingCriteriaList:
        """Return those criteria of `generate` that end single rows, as it makes them itself."""
        criteria = StoppingCriteriaList()
        if end_tokens := self._settings.end_tokens:
            criteria.append(EosTokenCriteria(end_tokens))
        if stop := self._settings.stop_strings:
            criteria.append(StopStringCriteria(self._settings.values["tokenizer"], stop))
        return criteria


class _Progress(StoppingCriteria):
    """Counts the tokens of each row, and ends the call when few rows are unfinished."""

    def __init__(self, endings: StoppingCriteriaList, ids: torch.Tensor, few: int) -> None:
        self.unfinished = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        self._counts = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
        self._endings, self._few = endings, few

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._counts += self.unfinished
        self.unfinished &= ~self._endings(input_ids, scores)
        return torch.full_like(self.unfinished, int(self.unfinished.sum()) <= self._few)

    @property
    def lengths(self) -> list[int | None]:
        """How many tokens each finished row got in this call; None for an unfinished row."""
        pairs = zip(self._counts.tolist(), self.unfinished.tolist(), strict=True)
        return [None if is_unfinished else count for count, is_unfinished in pairs]
