"""Active requests over a vocabulary of two tokens: `a`, and `end`, the end token."""

from tokenizers import Tokenizer, models

from slmflow.runtime.generation.active_request import ActiveRequest, ModelTraits
from slmflow.runtime.generation.events import Deliver
from slmflow.runtime.generation.options import RequestOptions

TOKENIZER = Tokenizer(models.WordLevel({"a": 0, "end": 1}, unk_token="a"))  # noqa: S106
MODEL = ModelTraits(TOKENIZER, frozenset({1}))


def active_request(
    prompt_tokens: int, max_tokens: int, deliver: Deliver = lambda _: None
) -> ActiveRequest:
    options = RequestOptions(max_tokens=max_tokens, temperature=0.0, top_p=1.0)
    prompt = [0] * prompt_tokens
    return ActiveRequest(prompt, options, max_tokens, MODEL, deliver)
