"""How likely a model finds the expected answers, token by token.

The log-probability of an answer is the sum of those of its tokens, each given its conversation in
the chat template and the answer's tokens before. Prompt and answer are tokenized apart and joined,
without special tokens added: both flavors score the same ids, and it is the template that writes a
BOS token where the model wants one.
"""

import functools
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets import multiple_choice
from slmflow.datasets.rows import Message, Row
from slmflow.measurement.records import Likelihood

Score = Callable[[list[Message], str], tuple[float, int]]
"""From messages and an answer to its sum of log-probabilities (natural) and number of tokens."""


def scorer(model: PyFuncModel) -> Score | None:
    """Return what scores answers with this model, or None where it offers no way.

    A transformers model gives its pipeline; a Python model may have a method `score`.
    """
    if "transformers" in model.metadata.flavors:
        return functools.partial(_score_with_pipeline, model.get_raw_model())
    try:
        own = model.unwrap_python_model()
    except MlflowException:  # a flavor that is no Python model
        return None
    score: Score | None = getattr(own, "score", None)
    return score


def of_row(score: Score, row: Row) -> tuple[Likelihood, tuple[float, ...] | None]:
    """Return how likely the expected answer is, and the log-probabilities of the choices' letters.

    These are in the order of the choices, None where a row has none.
    """
    if row.choices is None:
        return Likelihood(*score(row.messages, row.answer)), None
    letters = multiple_choice.letters(row.choices)
    found = [Likelihood(*score(row.messages, letter)) for letter in letters]
    return found[letters.index(row.answer)], tuple(each.logprob for each in found)


def _score_with_pipeline(
    pipeline: Any, conversation: list[Message], answer: str
) -> tuple[float, int]:
    import torch  # here, because the other flavor's process must not hold it in memory

    tokenizer, model = pipeline.tokenizer, pipeline.model
    prompt = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    given = tokenizer.encode(prompt, add_special_tokens=False)
    scored = tokenizer.encode(answer, add_special_tokens=False)
    with torch.inference_mode():
        logits = model(torch.tensor([given + scored], device=model.device)).logits
    # The logits at a position are those of the token after it.
    logprobs = logits[0, len(given) - 1 : -1].float().log_softmax(dim=-1)
    chosen = torch.tensor(scored, device=model.device).unsqueeze(-1)
    return float(logprobs.gather(-1, chosen).sum()), len(scored)
