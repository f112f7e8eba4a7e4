"""Compute the likelihood of the expected answers.

The log-probability of an answer is the sum over its tokens, each conditioned on the rendered
conversation and the preceding tokens. Prompt and answer are tokenized separately, without special
tokens, and concatenated. So both flavors score the same token ids, and a BOS token comes from the
chat template only. A reasoning block that the prompt opens is closed first, empty.

A model that takes prompts scores the answer as their continuation, after a space: so both are
tokenized as one text, with the tokenizer's special tokens.
"""

import functools
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.checkpoints.chat_template import default_template
from slmflow.datasets import multiple_choice
from slmflow.datasets.rows import Message, Row
from slmflow.flavors.chat_interfaces import find_interface
from slmflow.measurement.records import Likelihood
from slmflow.runtime.generation.reasoning import ReasoningReader
from slmflow.runtime.prompts.message_encoder import encode_continuation

EncodeFunction = Callable[[list[Message], str], tuple[list[int], list[int]]]
"""Maps messages and an answer to the token ids of the prompt and of the answer."""

ScoreFunction = Callable[[list[Message], str], tuple[float, int]]
"""Maps messages and an answer to the answer's natural log-probability and number of tokens."""


def find_scorer(model: PyFuncModel) -> ScoreFunction | None:
    """Return the function that scores answers with this model, or None if the model has none.

    A transformers model is scored through its pipeline, a Python model by its method `score`.
    """
    if "transformers" in model.metadata.flavors:
        pipeline = model.get_raw_model()
        tokenizer = pipeline.tokenizer
        if find_interface(model.metadata).takes_prompt:
            encode: EncodeFunction = functools.partial(_encode_prompt, tokenizer)
        else:
            template, backend = default_template(tokenizer), tokenizer.backend_tokenizer
            encode = functools.partial(_encode_chat, tokenizer, ReasoningReader(template, backend))
        return functools.partial(_score_with_pipeline, pipeline, encode)
    try:
        python_model = model.unwrap_python_model()
    except MlflowException:  # not a Python model
        return None
    score: ScoreFunction | None = getattr(python_model, "score", None)
    return score


def score_row(score: ScoreFunction, row: Row) -> tuple[Likelihood, tuple[float, ...] | None]:
    """Return the likelihood of the expected answer and the log-probabilities of all choices.

    Choices are scored by their letters. Without choices, the second value is None.
    """
    if row.choices is None:
        return Likelihood(*score(row.messages, row.answer)), None
    letters = multiple_choice.choice_letters(row.choices)
    likelihoods = [Likelihood(*score(row.messages, letter)) for letter in letters]
    return likelihoods[letters.index(row.answer)], tuple(each.logprob for each in likelihoods)


def _encode_prompt(
    tokenizer: Any, conversation: list[Message], answer: str
) -> tuple[list[int], list[int]]:
    [message] = conversation  # longer ones are rejected before a model is loaded
    return encode_continuation(tokenizer.backend_tokenizer, message["content"], answer)


def _encode_chat(
    tokenizer: Any, reasoning: ReasoningReader, conversation: list[Message], answer: str
) -> tuple[list[int], list[int]]:
    prompt = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    prompt_ids += tokenizer.encode(reasoning.format(prompt_ids).closing, add_special_tokens=False)
    return prompt_ids, tokenizer.encode(answer, add_special_tokens=False)


def _score_with_pipeline(
    pipeline: Any, encode: EncodeFunction, conversation: list[Message], answer: str
) -> tuple[float, int]:
    import torch  # imported late to keep it out of the other flavor's memory

    model = pipeline.model
    prompt_ids, answer_ids = encode(conversation, answer)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_ids + answer_ids], device=model.device)).logits
    # The logits at a position predict the next token.
    logprobs = logits[0, len(prompt_ids) - 1 : -1].float().log_softmax(dim=-1)
    index = torch.tensor(answer_ids, device=model.device).unsqueeze(-1)
    return float(logprobs.gather(-1, index).sum()), len(answer_ids)
