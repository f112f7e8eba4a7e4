"""LangChain, by langchain-openai."""

from typing import Any

from cells import (
    ANSWER,
    NO_THINKING,
    PROMPT,
    QUESTION,
    TOOL_QUESTION,
    UNITS,
    Server,
    cell,
    check_answer,
    check_weather,
    main,
)
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict


class Capital(BaseModel):
    """A capital."""

    model_config = ConfigDict(extra="forbid")
    country: str
    population: int


@tool
def get_weather(city: str, unit: str) -> str:
    """Return the weather of a city. unit: celsius or fahrenheit."""
    return f"21 {unit} in {city}"


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": list(UNITS)},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


def chat_model(server: Server, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=server.api, api_key=server.key, model=server.model, max_retries=0, **options
    )


@cell("chat")
def chat(server: Server) -> None:
    message = chat_model(server).invoke(QUESTION)
    check_answer(message.text)
    assert message.usage_metadata and message.usage_metadata["output_tokens"] > 0


@cell("stream")
def stream(server: Server) -> None:
    pieces = [chunk.text for chunk in chat_model(server, stream_usage=True).stream(QUESTION)]
    assert len(pieces) > 2
    check_answer("".join(pieces))


@cell("completions")
def completions(server: Server) -> None:
    model = OpenAI(
        base_url=server.api, api_key=server.key, model=server.model, max_tokens=8, max_retries=0
    )
    assert len(model.generate([PROMPT, PROMPT]).generations) == 2


@cell("JSON schema")
def json_schema(server: Server) -> None:
    model = chat_model(server).with_structured_output(Capital, method="json_schema", strict=True)
    assert isinstance(model.invoke(QUESTION), Capital)


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    message = chat_model(server).bind_tools([get_weather]).invoke(TOOL_QUESTION)
    assert message.tool_calls or message.text
    assert not message.invalid_tool_calls


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """The call, whole and streamed, and the answer to its result."""
    forced = chat_model(server).bind_tools([WEATHER], tool_choice="any")
    call_message = forced.invoke(TOOL_QUESTION)
    for call in call_message.tool_calls:
        assert call["name"] == "get_weather"
        check_weather(call["args"])
    assert call_message.tool_calls

    named = chat_model(server).bind_tools([WEATHER], tool_choice="get_weather")
    chunks = list(named.stream(TOOL_QUESTION))
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged = merged + chunk
    check_weather(merged.tool_calls[0]["args"])

    results = [ToolMessage("21 degrees", tool_call_id=c["id"]) for c in call_message.tool_calls]
    answer = chat_model(server).invoke([HumanMessage(TOOL_QUESTION), call_message, *results])
    assert answer.text


@cell("logprobs")
def logprobs(server: Server) -> None:
    message = chat_model(server, logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = message.response_metadata["logprobs"]["content"]
    assert content and all(len(token["top_logprobs"]) == 2 for token in content)


@cell("n")
def several(server: Server) -> None:
    model = chat_model(server, n=3, temperature=1.0, seed=1, max_tokens=16)
    [generations] = model.generate([[HumanMessage(QUESTION)]]).generations
    assert len(generations) == 3


@cell("responses")
def responses(server: Server) -> None:
    model = chat_model(server, use_responses_api=True)
    check_answer(model.invoke(QUESTION).text)
    assert ANSWER in "".join(chunk.text for chunk in model.stream(QUESTION))


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    model = chat_model(server, use_responses_api=True).bind_tools([WEATHER], tool_choice="any")
    call_message = model.invoke(TOOL_QUESTION)
    assert call_message.tool_calls
    check_weather(call_message.tool_calls[0]["args"])


@cell("embeddings", refused="/v1/embeddings")
def embeddings(server: Server) -> None:
    OpenAIEmbeddings(
        base_url=server.api,
        api_key=server.key,
        model=server.model,
        check_embedding_ctx_length=False,
        max_retries=0,
    ).embed_query(QUESTION)


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """It drops the reasoning of any server, so only the switch shows."""
    check_answer(chat_model(server, extra_body=NO_THINKING).invoke(QUESTION).text)


main()
