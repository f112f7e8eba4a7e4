"""OpenAI's own client for Python."""

from typing import Any

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
from openai import OpenAI

MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
TOOL_MESSAGES: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": WEATHER_SCHEMA,
        "strict": True,
    },
}


def client(server: Server) -> OpenAI:
    return OpenAI(base_url=server.api, api_key=server.key, max_retries=0)


@cell("chat")
def chat(server: Server) -> None:
    response = client(server).chat.completions.create(model=server.model, messages=MESSAGES)
    [choice] = response.choices
    check_answer(choice.message.content)
    assert choice.message.refusal is None
    assert choice.finish_reason == "stop"
    assert response.usage and response.usage.total_tokens > response.usage.prompt_tokens > 0


@cell("stream")
def stream(server: Server) -> None:
    chunks = list(
        client(server).chat.completions.create(
            model=server.model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    assert len(pieces) > 1
    check_answer("".join(pieces))
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens >= len(pieces)


@cell("completions")
def completions(server: Server) -> None:
    response = client(server).completions.create(
        model=server.model, prompt=[PROMPT, "1, 2, 3,"], max_tokens=8, temperature=0
    )
    first, second = response.choices
    assert (first.index, second.index) == (0, 1)
    assert first.text and second.text
    assert response.usage and response.usage.completion_tokens <= 16


@cell("JSON schema")
def json_schema(server: Server) -> None:
    response = client(server).chat.completions.create(
        model=server.model,
        messages=MESSAGES,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "capital", "schema": CAPITAL_SCHEMA, "strict": True},
        },
    )
    assert response.choices[0].finish_reason == "stop"
    check_capital(response.choices[0].message.content or "")


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    response = client(server).chat.completions.create(
        model=server.model, messages=TOOL_MESSAGES, tools=[TOOL], tool_choice="auto"
    )
    [choice] = response.choices
    if choice.message.tool_calls:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls[0].function.name == "get_weather"
    else:
        assert choice.message.content


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """The call, whole and streamed, and the answer to its result."""
    request: dict[str, Any] = {
        "model": server.model,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    api = client(server).chat.completions
    [choice] = api.create(messages=TOOL_MESSAGES, **request).choices
    assert choice.finish_reason == "tool_calls", choice
    [call] = choice.message.tool_calls or []
    assert call.function.name == "get_weather"
    check_weather(call.function.arguments)

    with api.stream(messages=TOOL_MESSAGES, **request) as events:
        [streamed] = events.get_final_completion().choices[0].message.tool_calls or []
    check_weather(streamed.function.arguments)

    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"}
    history = [*TOOL_MESSAGES, choice.message.model_dump(exclude_none=True), result]
    answer = api.create(model=server.model, messages=history, tools=[TOOL], tool_choice="none")
    assert answer.choices[0].message.content


@cell("logprobs")
def logprobs(server: Server) -> None:
    [choice] = (
        client(server)
        .chat.completions.create(
            model=server.model, messages=MESSAGES, logprobs=True, top_logprobs=3, temperature=0
        )
        .choices
    )
    assert choice.logprobs and choice.logprobs.content
    for token in choice.logprobs.content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.token == token.top_logprobs[0].token
    text = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content).decode()
    assert (choice.message.content or "") in text


@cell("n")
def several(server: Server) -> None:
    response = client(server).chat.completions.create(
        model=server.model, messages=MESSAGES, n=3, temperature=1.0, seed=1, max_tokens=16
    )
    assert [choice.index for choice in response.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in response.choices)


@cell("responses")
def responses(server: Server) -> None:
    api = client(server).responses
    response = api.create(model=server.model, input=QUESTION, instructions="Be brief.")
    assert response.status == "completed"
    check_answer(response.output_text)
    with api.stream(model=server.model, input=QUESTION) as events:
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert len(deltas) > 1
    assert "".join(deltas) == final.output_text
    check_answer(final.output_text)


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    tool: Any = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
    api = client(server).responses
    response = api.create(
        model=server.model,
        input=TOOL_QUESTION,
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        store=False,
    )
    [call] = [item for item in response.output if item.type == "function_call"]
    assert call.name == "get_weather"
    check_weather(call.arguments)
    history: Any = [
        *TOOL_MESSAGES,
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees, sunny"},
    ]
    answer = api.create(
        model=server.model, input=history, tools=[tool], tool_choice="none", store=False
    )
    assert answer.output_text


@cell("embeddings", refused="/v1/embeddings")
def embeddings(server: Server) -> None:
    client(server).embeddings.create(model=server.model, input=QUESTION)


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """The reasoning is apart from the answer, and the request switches it off."""
    api = client(server).chat.completions
    message = api.create(model=server.model, messages=MESSAGES, extra_body=THINKING, max_tokens=48)
    assert message.choices[0].message.model_extra
    assert message.choices[0].message.model_extra["reasoning_content"]
    [plain] = api.create(model=server.model, messages=MESSAGES, extra_body=NO_THINKING).choices
    assert not (plain.message.model_extra or {}).get("reasoning_content")
    check_answer(plain.message.content)


main()
