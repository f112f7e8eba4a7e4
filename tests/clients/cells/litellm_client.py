"""LiteLLM."""

from typing import Any

import litellm
from cells import (
    CAPITAL_SCHEMA,
    NO_THINKING,
    PROMPT,
    QUESTION,
    THINKING,
    TOOL_QUESTION,
    WEATHER_SCHEMA,
    Server,
    cell,
    check_answer,
    check_capital,
    check_weather,
    main,
)

litellm.telemetry = False

MESSAGES = [{"role": "user", "content": QUESTION}]
TOOL_MESSAGES = [{"role": "user", "content": TOOL_QUESTION}]
FUNCTION: dict[str, Any] = {"name": "get_weather", "parameters": WEATHER_SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]


def options(server: Server) -> dict[str, Any]:
    return {
        "model": f"openai/{server.model}",
        "api_base": server.api,
        "api_key": server.key,
        "num_retries": 0,
    }


def complete(server: Server, messages: Any = MESSAGES, **fields: Any) -> Any:
    return litellm.completion(**options(server), messages=messages, **fields)


@cell("chat")
def chat(server: Server) -> None:
    response = complete(server)
    check_answer(response.choices[0].message.content)
    assert response.usage.completion_tokens > 0


@cell("stream")
def stream(server: Server) -> None:
    chunks = list(complete(server, stream=True, stream_options={"include_usage": True}))
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    assert len(pieces) > 1
    check_answer("".join(pieces))


@cell("completions")
def completions(server: Server) -> None:
    settings = options(server) | {"model": f"text-completion-openai/{server.model}"}
    response = litellm.text_completion(**settings, prompt=PROMPT, max_tokens=8)
    assert response.choices[0].text


@cell("JSON schema")
def json_schema(server: Server) -> None:
    schema = {"name": "capital", "schema": CAPITAL_SCHEMA, "strict": True}
    response = complete(server, response_format={"type": "json_schema", "json_schema": schema})
    check_capital(response.choices[0].message.content)


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    message = complete(server, TOOL_MESSAGES, tools=TOOLS).choices[0].message
    assert message.tool_calls or message.content


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """The call, whole and streamed, and the answer to its result."""
    forced = {"tools": TOOLS, "tool_choice": "required"}
    message = complete(server, TOOL_MESSAGES, **forced).choices[0].message
    assert message.tool_calls
    check_weather(message.tool_calls[0].function.arguments)

    chunks = list(complete(server, TOOL_MESSAGES, **forced, stream=True))
    rebuilt = litellm.stream_chunk_builder(chunks, messages=TOOL_MESSAGES)
    check_weather(rebuilt.choices[0].message.tool_calls[0].function.arguments)

    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
        for call in message.tool_calls
    ]
    answer = complete(server, [*TOOL_MESSAGES, message.model_dump(), *results])
    assert answer.choices[0].message.content


@cell("logprobs")
def logprobs(server: Server) -> None:
    choice = complete(server, logprobs=True, top_logprobs=2).choices[0]
    assert choice.logprobs.content and len(choice.logprobs.content[0].top_logprobs) == 2


@cell("n")
def several(server: Server) -> None:
    assert len(complete(server, n=3, temperature=1.0, max_tokens=16).choices) == 3


@cell("responses")
def responses(server: Server) -> None:
    settings = options(server)
    response = litellm.responses(**settings, input=QUESTION)
    texts = [part.text for item in response.output for part in getattr(item, "content", [])]
    check_answer("".join(texts))
    events = list(litellm.responses(**settings, input=QUESTION, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    check_answer("".join(deltas))


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    response = litellm.responses(
        **options(server),
        input=TOOL_QUESTION,
        tools=[{"type": "function", **FUNCTION}],
        tool_choice="required",
    )
    calls = [item for item in response.output if item.type == "function_call"]
    assert calls
    check_weather(calls[0].arguments)


@cell("embeddings", refused="/v1/embeddings")
def embeddings(server: Server) -> None:
    litellm.embedding(**options(server), input=[QUESTION])


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """The reasoning is apart from the answer, and the request switches it off."""
    message = complete(server, extra_body=THINKING, max_tokens=48).choices[0].message
    assert message.reasoning_content
    plain = complete(server, extra_body=NO_THINKING).choices[0].message
    assert not getattr(plain, "reasoning_content", None)
    check_answer(plain.content)


main()
