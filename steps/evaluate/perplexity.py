"""Perplexity of the reference answers: how little a model is surprised by what it should say.

It is exp(-(sum of the log-probabilities) / tokens) over the tokens of all answers, each given its
conversation in the chat template and the answer's tokens before. Prompt and answer are tokenized
apart and joined, without special tokens added: both flavors score the same ids, and it is the
template that writes a BOS token where the model wants one.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

from mlflow.pyfunc import PyFuncModel

from steps.common.rows import Message, Row

Score = Callable[[list[Message], str], tuple[float, int]]
"""From messages and an answer to its sum of log-probabilities (natural) and number of tokens."""


def scorer(model: PyFuncModel) -> Score | None:
    """Return what scores answers with this model, or None where it offers no way.

    A transformers model gives its pipeline; a Python model may have a method `score`.
    """
    if "transformers" in model.metadata.flavors:
        return functools.partial(_score_with_pipeline, model.get_raw_model())
    score: Score | None = getattr(model.unwrap_python_model(), "score", None)
    return score


def perplexity(score: Score, rows: Iterable[Row]) -> float | None:
    """Return the perplexity of the rows' answers; None if they have no tokens."""
    scores = [score(row.messages, row.answer) for row in rows]
    tokens = sum(count for _, count in scores)
    return math.exp(-sum(logprob for logprob, _ in scores) / tokens) if tokens else None


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
