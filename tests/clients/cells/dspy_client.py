"""DSPy."""

from typing import Any, Literal

import dspy
import litellm
from cells import NO_THINKING, PROMPT, QUESTION, TOOL_QUESTION, Server, cell, check_answer, main


def model(server: Server, kind: str = "chat", **options: Any) -> dspy.LM:
    return dspy.LM(
        f"openai/{server.model}",
        model_type=kind,
        api_base=server.api,
        api_key=server.key,
        cache=False,
        num_retries=0,
        **options,
    )


class Capital(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    country: str = dspy.OutputField()
    population: int = dspy.OutputField()


class Weather(dspy.Signature):
    """Ask for the weather."""

    question: str = dspy.InputField()
    city: str = dspy.OutputField()
    unit: Literal["celsius", "fahrenheit"] = dspy.OutputField()


def _text(output: Any) -> str:
    return output["text"] if isinstance(output, dict) else output


@cell("chat")
def chat(server: Server) -> None:
    [output] = model(server)(QUESTION)
    check_answer(_text(output))


@cell("completions")
def completions(server: Server) -> None:
    [output] = model(server, "text", max_tokens=8)(PROMPT)
    assert _text(output)


@cell("JSON schema")
def json_schema(server: Server) -> None:
    """A typed signature, by its JSON adapter, which has to be told that the model takes schemas."""
    entry = {"litellm_provider": "openai", "mode": "chat", "supports_response_schema": True}
    litellm.register_model({f"openai/{server.model}": entry})
    with dspy.context(lm=model(server, engine="litellm"), adapter=dspy.JSONAdapter()):
        prediction = dspy.Predict(Capital)(question=QUESTION)
    assert isinstance(prediction.country, str) and type(prediction.population) is int


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    [output] = model(server)(TOOL_QUESTION, tools=[tool])
    assert output


@cell("logprobs")
def logprobs(server: Server) -> None:
    [output] = model(server)(QUESTION, logprobs=True)
    assert output["logprobs"].content


@cell("n")
def several(server: Server) -> None:
    assert len(model(server)(QUESTION, n=3, temperature=1.0, max_tokens=16)) == 3


@cell("responses")
def responses(server: Server) -> None:
    [output] = model(server, "responses")(QUESTION)
    check_answer(_text(output))


@cell("embeddings", refused="/v1/embeddings")
def embeddings(server: Server) -> None:
    dspy.Embedder(f"openai/{server.model}", api_base=server.api, api_key=server.key, caching=False)(
        QUESTION
    )


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """The request switches it off."""
    [output] = model(server)(QUESTION, extra_body=NO_THINKING)
    check_answer(_text(output))


main()
