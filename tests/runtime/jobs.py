"""Answers to be, of a vocabulary of two tokens: `a`, and `end`, which ends an answer."""

from tokenizers import Tokenizer, models

from slmflow.runtime.generation.answer import Deliver, Job
from slmflow.runtime.generation.options import Options

TOKENIZER = Tokenizer(models.WordLevel({"a": 0, "end": 1}, unk_token="a"))  # noqa: S106


def job(tokens: int, most: int, deliver: Deliver = lambda _: None) -> Job:
    """Return the job of at most so many tokens after a prompt of so many."""
    options = Options(max_tokens=most, temperature=0.0, top_p=1.0)
    return Job([0] * tokens, options, most, TOKENIZER, frozenset({1}), deliver)
