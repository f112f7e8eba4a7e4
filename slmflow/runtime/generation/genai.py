"""The model in ONNX Runtime GenAI: batches of answers, a token of each at a time."""

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from ..errors import refuse
from .answer import Job

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the runtime is imported
import onnxruntime_genai as og

# More rows hardly speed up two cores, and make each answer slower.
ROWS = 16

# So many tokens of prompts are read at once, of several rows: more are read no faster, keep those
# waiting who have begun, and need memory that the arena of ONNX Runtime never gives back.
READ_TOKENS = 1536

# A generator reserves the KV cache of all its rows up to the longest they may become.
CACHE_BYTES = 2 * 2**30

# Else llguidance takes blanks around any value, and a model may go on with them to the last token.
_COMPACT = {"x-guidance": {"whitespace_flexible": False}}

# The KV cache of these types is computed anew where a text grows beyond this length, since their
# rotary embedding has other factors there: GenAI 0.15 does so for a single row only.
_LONGROPE_TYPES, _LONGROPE_LENGTH = ("phi3", "phimoe"), 4096


class Genai:
    """An `Engine` that also scores texts; nothing in it changes, so threads may share it."""

    guides = True

    def __init__(self, folder: Path) -> None:
        """Load the folder that `genai_config.json` lies in; its weights are mapped, not copied."""
        config = json.loads((folder / "genai_config.json").read_text("utf-8"))
        model, search = config["model"], config.get("search", {})
        ends = model["eos_token_id"]
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])
        self.context_length: int = model["context_length"]
        # What the model's makers chose, where neither the request nor the logged model says.
        self.defaults: dict[str, Any] = {
            "top_k": search.get("top_k", 0),
            "repetition_penalty": search.get("repetition_penalty", 1.0),
        }
        self._pad: int = model["pad_token_id"]
        self._vocabulary: int = model["vocab_size"]
        self._cache_bytes = _cache_bytes(model["decoder"])
        longrope = model["type"] in _LONGROPE_TYPES and self.context_length > _LONGROPE_LENGTH
        self._batch_length = _LONGROPE_LENGTH if longrope else self.context_length
        self._model = _loaded(folder)

    def fit(self, jobs: Sequence[Job]) -> bool:
        """Return whether these may be one batch."""
        if len(jobs) == 1:
            return True
        alone = any(job.options.schema or job.prompt[-1] == self._pad for job in jobs)
        if len(jobs) > ROWS or alone:
            return False
        longest = max(len(job.prompt) for job in jobs)
        reserved = longest + max(job.room for job in jobs)
        return bool(
            len(jobs) * longest <= READ_TOKENS
            and reserved <= self._batch_length
            and len(jobs) * reserved * self._cache_bytes <= CACHE_BYTES
        )

    def read(self, jobs: Sequence[Job]) -> "GenaiBatch":
        """Return a batch that has read the prompts."""
        rows = [job.prompt for job in jobs]
        longest = max(map(len, rows))
        padded = np.full((len(rows), longest), self._pad, dtype=np.int32)
        for row, tokens in zip(padded, rows, strict=True):
            row[: len(tokens)] = tokens
        length = longest + max(job.room for job in jobs)
        params = og.GeneratorParams(self._model)
        params.set_search_options(
            batch_size=len(rows), max_length=length, num_beams=1, **self._search(jobs[0])
        )
        generator = _guided(self._model, params, jobs[0].options.schema)
        _append(generator, padded, self._pad)
        return GenaiBatch(generator, jobs)

    def log_probabilities(self, tokens: Sequence[int], count: int) -> NDArray[np.float64]:
        """Return the natural log-probability of each of the last `count` tokens of a text."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(tokens), num_beams=1, do_sample=False)
        generator = og.Generator(self._model, params)
        read, said = np.array([tokens[:-count]], dtype=np.int32), tokens[-count:]
        _append(generator, read, self._pad)
        found = [_log_probability(generator.get_logits()[0, -1], said[0])]
        # Token by token, as when it generates: a graph need not give logits for all positions.
        for before, token in pairwise(said):
            generator.append_tokens([before])
            found.append(_log_probability(generator.get_logits()[0, -1], token))
        return np.array(found)

    def _search(self, job: Job) -> dict[str, Any]:
        """Return what the runtime is told of choosing: all only where it masks by a schema."""
        options = job.options
        if options.schema is None or options.greedy:
            return {"do_sample": False, "repetition_penalty": 1.0}
        return {
            "do_sample": True,
            "repetition_penalty": 1.0,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": min(options.top_k, self._vocabulary),
            "random_seed": -1 if options.seed is None else options.seed % 2**31,
        }


def _loaded(folder: Path) -> og.Model:
    """Load with a thread for each CPU that this process may use.

    Left to itself the runtime takes half of what a virtual machine says it has, and in a container
    all of its host's.
    """
    config = og.Config(str(folder))
    options = {"intra_op_num_threads": cpu_count()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
    return og.Model(config)


class GenaiBatch:
    """Rows of one generator. A row whose answer is finished stays, and says nothing.

    What a row has said before is not read as a prompt is: attention then rounds otherwise, and the
    answer could go on in another way than alone.
    """

    def __init__(self, generator: og.Generator, jobs: Sequence[Job]) -> None:
        """Go on with a generator that has read a row for each job."""
        self.rows = list(jobs)
        self._generator = generator
        self._steps = 0

    def step(self) -> None:
        """Have each job that is not finished say its next token, or go through what it said."""
        if not all(job.finished or (job.plain and not self._behind(job)) for job in self.rows):
            self._generator.set_logits(self._decided(self._generator.get_logits()))
        self._generator.generate_next_token()
        says = [not (job.finished or self._behind(job)) for job in self.rows]
        self._steps += 1
        for job, token, says_it in zip(
            self.rows, self._generator.get_next_tokens(), says, strict=True
        ):
            if says_it:
                job.say(int(token))

    def _behind(self, job: Job) -> bool:
        return self._steps < len(job.said)

    def _decided(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits, float32[rows, 1, vocabulary], after which the runtime says our choice."""
        decided = np.full_like(logits, np.finfo(np.float32).min)
        for row, job in enumerate(self.rows):
            if self._behind(job):
                decided[row, -1, job.said[self._steps]] = 0
            elif job.options.schema is not None:  # the runtime has yet to mask and to choose
                decided[row, -1] = job.sampler.penalized(logits[row, -1])
            elif not job.finished:
                decided[row, -1, job.sampler.choose(logits[row, -1])] = 0
        return decided


def _append(generator: og.Generator, rows: NDArray[np.int32], pad: int) -> None:
    """Have the rows read. A pad token that ends one is taken for padding, unless it comes alone."""
    if len(rows) == 1 and rows.shape[1] > 1 and rows[0, -1] == pad:
        generator.append_tokens(rows[:, :-1])
        rows = rows[:, -1:]
    generator.append_tokens(rows)


def _guided(model: og.Model, params: og.GeneratorParams, schema: str | None) -> og.Generator:
    if schema is None:
        return og.Generator(model, params)
    try:
        params.set_guidance("json_schema", json.dumps(_COMPACT | json.loads(schema)))
        return og.Generator(model, params)
    except RuntimeError as error:
        refuse(f"response_format: the runtime cannot follow this schema: {error}")


def _cache_bytes(decoder: dict[str, Any]) -> int:
    """Return the size of one token's keys and values, at most: in fp32."""
    heads, size = decoder["num_key_value_heads"], decoder["head_size"]
    return int(2 * 4 * decoder["num_hidden_layers"] * heads * size)


def _log_probability(logits: NDArray[Any], token: int) -> float:
    """Return the natural logarithm of the softmax of `logits`, float[vocabulary], at `token`."""
    shifted = logits.astype(np.float64) - logits.max()
    return float(shifted[token] - np.log(np.exp(shifted).sum()))
