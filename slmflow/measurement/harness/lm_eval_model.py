"""A loaded MLflow model as a model of lm-evaluation-harness, of either flavor.

Prompts are tokenized as the harness's own `hf` model does it: as one text with the continuation,
with the tokenizer's special tokens unless the text begins with them. A text that does not fit into
the context loses its start.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from slmflow.errors import UserError
from slmflow.measurement.harness.text_models import TextModel, TextOptions
from slmflow.measurement.journal import Journal
from slmflow.runtime.prompts.message_encoder import encode_document

OnProgress = Callable[[str, int, int], None]
"""Receives what is computed, how many requests are done, and how many there are."""

# As in the harness's `hf` model.
_MAX_NEW_TOKENS = 256


class HarnessModel(TemplateLM):  # type: ignore[misc] # the harness is an optional package
    """Answers the harness's requests with a loaded model.

    Responses are kept in a journal, so that no request is computed twice for the same model.
    """

    def __init__(
        self, model: TextModel, journal: Journal | None, seed: int | None, progress: OnProgress
    ) -> None:
        """Use a loaded model; seed: of texts that a task samples."""
        super().__init__()
        self._model, self._seed, self._progress = model, seed, progress
        self._journal = journal
        self._encoded: list[tuple[list[int], list[int]]] = []
        records = journal.read() if journal else []
        self._known = {record["request"]: record["response"] for record in records}

    @property
    def eot_token_id(self) -> int:
        """The end token. Raises UserError if the tokenizer names none."""
        if self._model.end_token is None:
            raise UserError("the model's tokenizer names no end token: set its eos_token")
        return self._model.end_token

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context: BOS, or the end token if there is no BOS."""
        bos = self._model.bos_token
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """The most tokens that are read to score another one, all within the context."""
        return self._model.context_length - 1

    @property
    def tokenizer_name(self) -> str:
        """What distinguishes the tokenizer in the harness's own cache, which is not used."""
        return "slmflow"

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Return the token ids of a text, by default with special tokens unless it has them."""
        if add_special_tokens is None:
            return encode_document(self._model.tokenizer, string)
        encoding = self._model.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        return list(encoding.ids)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the prompt of a conversation, by the model's chat template."""
        return self._model.render(chat_history, add_generation_prompt)

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return each continuation's natural log-probability, and whether it is the greedy one."""

        def compute(missing: Sequence[Instance]) -> Iterable[tuple[int, Any]]:
            self._encoded = []
            super(HarnessModel, self).loglikelihood(missing, disable_tqdm=True)
            for number, score in self._model.score(self._encoded):
                yield number, [score.logprob, score.is_greedy]

        responses = self._respond("likelihoods", requests, compute)
        return [(logprob, is_greedy) for logprob, is_greedy in responses]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """Receive the tokens of `loglikelihood`, which scores them itself."""
        for _texts, context, continuation in requests:
            # The last token is scored and not read.
            tokens = [*context, *continuation][-(self.max_length + 1) :]
            scored = min(len(continuation), len(tokens) - 1)
            self._encoded.append((tokens[: len(tokens) - scored], tokens[len(tokens) - scored :]))
        return []

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Return the natural log-probability of each text, read in windows of the context."""

        def compute(missing: Sequence[Instance]) -> Iterable[tuple[int, Any]]:
            pairs, owners = [], []
            for number, request in enumerate(missing):
                windows = get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                )
                for window in map(make_disjoint_window, windows):
                    pairs.append(window)
                    owners.append(number)
            sums, remaining = [0.0] * len(missing), [owners.count(n) for n in range(len(missing))]
            yield from ((number, 0.0) for number, count in enumerate(remaining) if not count)
            for position, score in self._model.score(pairs):
                number = owners[position]
                sums[number] += score.logprob
                remaining[number] -= 1
                if not remaining[number]:
                    yield number, sums[number]

        return self._respond("text likelihoods", requests, compute)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[str]:
        """Return the continuation of each prompt up to its first stop string."""

        def compute(missing: Sequence[Instance]) -> Iterable[tuple[int, Any]]:
            parsed = [self._parse_options(request.args[1]) for request in missing]
            groups: dict[TextOptions, list[int]] = {}
            for number, options in enumerate(parsed):
                groups.setdefault(options, []).append(number)
            for options, numbers in groups.items():
                room = self.max_length - options.max_new_tokens
                prompts = [self._fit(missing[number].args[0], room) for number in numbers]
                for position, text in self._model.generate(prompts, options):
                    yield numbers[position], postprocess_generated_text(text, [*options.stop], None)

        return self._respond("generated texts", requests, compute)

    def _parse_options(self, arguments: dict[str, Any]) -> TextOptions:
        options = normalize_gen_kwargs(arguments, _MAX_NEW_TOKENS)
        # Half of a short context is left for the prompt.
        limit = min(int(options["max_gen_toks"]), self.max_length // 2)
        return TextOptions(
            stop=tuple(text for text in options["until"] if text),
            max_new_tokens=max(1, limit),
            temperature=float(options.get("temperature") or 0) if options["do_sample"] else 0.0,
            top_p=float(options.get("top_p") or 1),
            seed=self._seed,
        )

    def _fit(self, prompt: str, tokens: int) -> str:
        """Return the end of a prompt that has at most this many tokens."""
        while (excess := len(self.tok_encode(prompt)) - tokens) > 0:
            offsets = self._model.tokenizer.encode(prompt, add_special_tokens=False).offsets
            start = offsets[min(excess, len(offsets) - 1)][0]
            prompt = prompt[max(1, start) :]
        return prompt

    def _respond(
        self,
        kind: str,
        requests: Sequence[Instance],
        compute: Callable[[Sequence[Instance]], Iterable[tuple[int, Any]]],
    ) -> list[Any]:
        """Return the responses to requests, of which `compute` yields those not known yet.

        A sampled text is always computed.
        """
        keys = [_digest(kind, request) for request in requests]
        sampled = [_is_sampled(request) for request in requests]
        responses: list[Any] = [None] * len(requests)
        missing: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            if not sampled[number] and key in self._known:
                responses[number] = self._known[key]
            else:
                missing.setdefault(f"{key} {number}" if sampled[number] else key, []).append(number)
        owners = list(missing.values())
        done = len(requests) - sum(map(len, owners))
        self._progress(kind, done, len(requests))
        for position, response in compute([requests[numbers[0]] for numbers in owners]):
            first = owners[position][0]
            for number in owners[position]:
                responses[number] = response
            if self._journal and not sampled[first]:
                self._journal.append({"request": keys[first], "response": response})
            done += len(owners[position])
            self._progress(kind, done, len(requests))
        return responses


def _is_sampled(request: Instance) -> bool:
    options = request.args[1] if len(request.args) > 1 else None
    return isinstance(options, dict) and bool(
        options.get("do_sample", options.get("temperature", 0) > 0)
    )


def _digest(kind: str, request: Instance) -> str:
    value = json.dumps([kind, *request.args], sort_keys=True, default=str)
    return hashlib.sha256(value.encode()).hexdigest()
