"""Score token ids: the log-probabilities of continuations, in batches, each shared prefix once.

    scorer = find_token_scorer(model)
    if scorer is not None:
        for number, score in scorer.score([(context, continuation), ...]):
            ...

Both flavors have a scorer: a transformers model through its pipeline, the GenAI model through the
methods of its Python model.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from tokenizers import Tokenizer

from slmflow.runtime.prompts.message_encoder import Message
from slmflow.runtime.readings import TokenPair


class TokenScore(NamedTuple):
    """The natural log-probability of a continuation.

    is_greedy: whether each of its tokens is the most probable one.
    """

    logprob: float
    is_greedy: bool


class TokenScorer(Protocol):
    """A loaded model that scores token ids.

    context_length: the most tokens of a context and its continuation together.
    """

    context_length: int
    tokenizer: Tokenizer

    def encode(self, messages: Sequence[Message], answer: str) -> TokenPair:
        """Return the token ids of a conversation and of an answer, see `runtime.likelihood`.

        Raises MlflowException (HTTP 400) for messages that the model rejects, and if there are too
        many tokens.
        """

    def score(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, TokenScore]]:
        """Yield the index of each pair with its score, in the order in which batches finish.

        An empty continuation has the log-probability 0. Raises MlflowException (HTTP 400) for an
        empty context, and if a pair has more tokens than `context_length` or a token that the model
        does not have; before any is scored.
        """


def find_token_scorer(model: PyFuncModel) -> TokenScorer | None:
    """Return the scorer of a loaded model; None if it has none.

    A GenAI model logged by an older version has none.
    """
    if "transformers" in model.metadata.flavors:
        # Imported late, to keep torch out of the other flavor's memory.
        from slmflow.measurement.scoring.pipeline_scorer import PipelineScorer

        return PipelineScorer(model)
    try:
        python_model = model.unwrap_python_model()
    except MlflowException:  # not a Python model
        return None
    return _PythonModelScorer(python_model) if hasattr(python_model, "score_tokens") else None


class _PythonModelScorer:
    """The scorer of a logged GenAI model, whose runtime shares no classes with this one."""

    def __init__(self, python_model: Any) -> None:
        self._model = python_model
        self.context_length: int = python_model.context_length
        self.tokenizer: Tokenizer = python_model.tokenizer

    def encode(self, messages: Sequence[Message], answer: str) -> TokenPair:
        context, continuation = self._model.encode_answer(messages, answer)
        return context, continuation

    def score(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, TokenScore]]:
        scores = self._model.score_tokens(pairs)
        return ((index, TokenScore(*score)) for index, *score in scores)
