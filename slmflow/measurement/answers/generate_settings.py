"""The settings of one call of transformers' `generate`, and how prompts may be batched under them.

A batch pads its prompts to one length. Settings that count positions from the start of a sequence,
or compare tokens of it, would count and compare the padding too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self


class Batching(Enum):
    """How prompts may share a call so that each gets the tokens it gets alone.

    PADDED: with padding, and the call may end early and be continued. EQUAL_LENGTHS: only with
    prompts of as many tokens, in one call. ALONE: not at all.
    """

    PADDED = 1
    EQUAL_LENGTHS = 2
    ALONE = 3


# With these, tokens depend on the logits and the tokens of their own row. Padding repeats a token
# of the row, so that the penalty sees no other. Sampling options have no effect on greedy rows.
_PADDED = {
    *("max_new_tokens", "min_new_tokens", "repetition_penalty", "suppress_tokens", "stop_strings"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "remove_invalid_values", "tokenizer"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff", "use_cache", "early_stopping", "length_penalty"),
    *("transformers_version", "_from_model_config", "generation_config"),
}

# These count positions or look for sequences of tokens, in each row by itself.
_EQUAL_LENGTHS = {
    *("max_length", "min_length", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias"),
    *("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"),
    "exponential_decay_length_penalty",
}

# Values that `generate` treats as if they were not given.
_NEUTRAL = {
    "cache_implementation": "hybrid",
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": False,
    "output_scores": False,
    "return_dict_in_generate": False,
    "return_legacy_cache": True,
}


@dataclass(frozen=True)
class GenerateSettings:
    """What `generate` follows in a call: its arguments, over the model's generation config."""

    values: Mapping[str, Any]

    @classmethod
    def of_call(cls, model: Any, arguments: Mapping[str, Any]) -> Self:
        """Return the settings in force when a model's `generate` gets these keyword arguments."""
        defaults = model.generation_config._get_default_generation_params() | _NEUTRAL
        del defaults["max_length"]  # given, it limits the prompt as well
        values = model.generation_config.to_diff_dict()
        if config := arguments.get("generation_config"):
            values |= config.to_diff_dict()
        values |= arguments
        return cls(
            {
                name: value
                for name, value in values.items()
                if value is not None and (name not in defaults or value != defaults[name])
            }
        )

    @property
    def is_greedy(self) -> bool:
        """Whether no token is drawn at random."""
        return not self.values.get("do_sample")

    @property
    def end_tokens(self) -> list[int]:
        """The ids that end a text."""
        given = self.values.get("eos_token_id", [])
        return [given] if isinstance(given, int) else list(given)

    @property
    def stop_strings(self) -> list[str]:
        """The strings that end a text."""
        given = self.values.get("stop_strings", [])
        return [given] if isinstance(given, str) else list(given)

    @property
    def batching(self) -> Batching:
        """How prompts may be batched; a setting that is not known here leaves each alone."""
        names = self.values.keys()
        if names - _PADDED - _EQUAL_LENGTHS or not self.values.get("use_cache", True):
            return Batching.ALONE
        is_limited = "max_new_tokens" in names and not names & _EQUAL_LENGTHS
        return Batching.PADDED if is_limited else Batching.EQUAL_LENGTHS

    def max_new_tokens(self, prompt_tokens: int) -> int:
        """Return how many tokens may follow a prompt of so many."""
        limit = self.values.get("max_new_tokens")
        if limit is not None:
            return int(limit)
        return max(int(self.values.get("max_length", prompt_tokens)) - prompt_tokens, 0)

    def remaining_limits(self, generated: int) -> dict[str, int]:
        """Return the limits of a call that continues one which generated so many tokens."""
        return {
            name: max(int(self.values[name]) - generated, 0)
            for name in ("max_new_tokens", "min_new_tokens")
            if name in self.values
        }
