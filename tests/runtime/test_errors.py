"""Unsupported and invalid requests are rejected by name and value."""

from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.runtime.pyfunc import GenaiPyfunc

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def response_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


LIST = {"type": "array", "items": {"type": "string"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}}


def error_message(model: PyFuncModel, **request: Any) -> str:
    with pytest.raises(MlflowException) as caught:
        model.predict({"messages": QUESTION, **request})
    assert caught.value.get_http_status_code() == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 9}, "n=9: must be a whole number from 1 to 8"),
        ({"stream": True}, "stream=True is not supported"),
        (
            {"tools": [TOOL]},
            "leave them out, or convert the model with a template that has them (model",
        ),
        ({"custom_inputs": {"a": 1}}, "custom_inputs={'a': 1} is not supported"),
        ({"logit_bias": {"5": 101}}, "logit_bias: 101 must be a number from -100 to 100"),
        ({"tool_choice": {"type": "function"}}, "tool_choice={'type': 'function'}: must be none"),
        ({"top_logprobs": 3}, "top_logprobs=3 requires logprobs=true"),
        ({"functions": [TOOL]}, "is not supported: leave it out"),
        ({"max_completion_tokens": 0}, "max_completion_tokens=0: must be a whole number"),
        (
            {"max_new_tokens": 3},
            "max_new_tokens is not an option. Did you mean max_tokens? Use messages, ",
        ),
        ({"min_p": 1.1}, "min_p=1.1: must be between 0 and 1"),
        ({"frequency_penalty": 2.5}, "frequency_penalty=2.5: must be between -2 and 2"),
        ({"presence_penalty": -3.0}, "presence_penalty=-3.0: must be between -2 and 2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: must be above 0"),
        ({"response_format": {"type": "xml"}}, "response_format={'type': 'xml'}: must be"),
        (response_format({"type": "no such type"}), "the runtime does not support this schema"),
        (
            response_format({"$ref": "file:///etc/passwd"}),
            "the runtime does not support this schema",
        ),
        (response_format({**LIST, "maxItems": 10**9}), "maxItems=1000000000: give at most 10,000"),
        (
            response_format({"anyOf": [{**LIST, "minItems": 10**6}]}),
            "minItems=1000000: give at most",
        ),
        ({"temperature": 2.5}, "temperature=2.5: must be between 0 (greedy) and 2"),
        ({"temperature": -0.1}, "temperature=-0.1: must be"),
        ({"top_p": 0.0}, "top_p=0.0: must be above 0 and at most 1"),
        ({"top_k": -2}, "top_k=-2: must be"),
        ({"max_tokens": 0}, "max_tokens=0: must be"),
        ({"stop": [""]}, "stop=['']: must be"),
        ({"messages": []}, "messages=[]: give a list"),
        ({"messages": [{"role": "user"}]}, "content=None in a message: give text"),
        (
            {"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]},
            "chat template knows no messages of role tool",
        ),
        ({"messages": [{"role": "user", "content": "x " * 600}]}, "context holds 512"),
    ],
)
def test_invalid_option_is_rejected(
    pyfunc: PyFuncModel, options: dict[str, Any], message: str
) -> None:
    assert message in error_message(pyfunc, **options)


def test_neutral_values_are_accepted(pyfunc: PyFuncModel) -> None:
    neutral = {"n": 1, "stream": False, "frequency_penalty": 0.0, "tools": [], "custom_inputs": {}}
    assert pyfunc.predict({"messages": QUESTION, **neutral, "top_k": 99_999})


def test_options_outside_the_signature_are_rejected(bare: GenaiPyfunc) -> None:
    with pytest.raises(
        MlflowException, match=r"beam is not an option\. Use messages, max_tokens, max_c"
    ):
        bare.predict(None, pd.DataFrame([{"messages": QUESTION, "beam": 1}]))
    with pytest.raises(MlflowException, match=r"must be a whole number from -2\*\*63"):
        bare.predict(None, pd.DataFrame([{"messages": QUESTION, "seed": -(2**63) - 1}]))
    with pytest.raises(MlflowException, match="beam is not an option"):
        bare.predict(None, pd.DataFrame([{"messages": QUESTION}]), params={"beam": 1})
    with pytest.raises(MlflowException, match="the input is a list"):
        bare.predict(None, [QUESTION])


def test_invalid_row_is_rejected_before_any_completion(
    bare: GenaiPyfunc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare._chat_model, "submit", lambda _: pytest.fail("a row was submitted"))
    rows = pd.DataFrame({"messages": [QUESTION, QUESTION], "temperature": [0.0, 9.0]})
    with pytest.raises(MlflowException, match=r"temperature=9\.0"):
        bare.predict(None, rows)
