"""A chat model that repeats the question, one token per word.

A question that begins with `crash` raises an error; `die` kills the process; `reject` is rejected.
"""

import math
import os
import signal
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

print("chatter on standard output")


class Parrot(PythonModel):
    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        return [self._complete(row) for row in model_input.to_dict("records")]

    def score(self, messages: list[dict[str, str]], answer: str) -> tuple[float, int]:
        """Give every word the probability 1/2, so the perplexity is 2."""
        _reject(messages[-1]["content"])
        return len(answer.split()) * math.log(0.5), len(answer.split())

    def _complete(self, row: dict[str, Any]) -> dict[str, Any]:
        question = row["messages"][-1]["content"]
        _reject(question)
        if question.startswith("crash"):
            raise ValueError("the parrot is tired")
        if question.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        words = question.split()
        completion = words[: int(row.get("max_tokens") or len(words))]
        return {
            "choices": [{"message": {"role": "assistant", "content": " ".join(completion)}}],
            "usage": {"prompt_tokens": len(words), "completion_tokens": len(completion)},
        }


def _reject(question: str) -> None:
    if question.startswith("reject"):
        raise MlflowException.invalid_parameter_value("the parrot knows no such word")


mlflow.models.set_model(Parrot())
