"""LlamaIndex, by its model for servers like OpenAI's."""

from typing import Any, Literal

from cells import (
    NO_THINKING,
    PROMPT,
    QUESTION,
    TOOL_QUESTION,
    Server,
    cell,
    check_answer,
    check_weather,
    main,
)
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from pydantic import BaseModel

MESSAGES = [ChatMessage(QUESTION)]


class Capital(BaseModel):
    """A capital."""

    country: str
    population: int


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
    """Return the weather of a city."""
    return f"21 {unit} in {city}"


def model(server: Server, kind: Any = OpenAILike, **options: Any) -> Any:
    settings = {"is_chat_model": True, "is_function_calling_model": True, "max_retries": 0}
    return kind(model=server.model, api_base=server.api, api_key=server.key, **(settings | options))


@cell("chat")
def chat(server: Server) -> None:
    check_answer(model(server).chat(MESSAGES).message.content)


@cell("stream")
def stream(server: Server) -> None:
    pieces = [response.delta for response in model(server).stream_chat(MESSAGES)]
    assert len(pieces) > 1
    check_answer("".join(piece or "" for piece in pieces))


@cell("completions")
def completions(server: Server) -> None:
    plain = model(server, is_chat_model=False, max_tokens=8)
    assert plain.complete(PROMPT).text
    assert "".join(response.delta or "" for response in plain.stream_complete(PROMPT))


@cell("JSON schema")
def json_schema(server: Server) -> None:
    structured = model(server, should_use_structured_outputs=True).as_structured_llm(Capital)
    assert isinstance(structured.chat(MESSAGES).raw, Capital)


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    llm, tool = model(server), FunctionTool.from_defaults(get_weather)
    response = llm.chat_with_tools([tool], user_msg=TOOL_QUESTION)
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    assert calls or response.message.content


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    llm, tool = model(server), FunctionTool.from_defaults(get_weather)
    response = llm.chat_with_tools([tool], user_msg=TOOL_QUESTION, tool_required=True)
    for call in llm.get_tool_calls_from_response(response):
        check_weather(call.tool_kwargs)


@cell("logprobs")
def logprobs(server: Server) -> None:
    response = model(server, logprobs=True, top_logprobs=2).chat(MESSAGES)
    assert response.logprobs and all(len(token) == 2 for token in response.logprobs)


@cell("responses")
def responses(server: Server) -> None:
    check_answer(model(server, OpenAILikeResponses).chat(MESSAGES).message.content)


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """It drops the reasoning of any server, so only the switch shows."""
    plain = model(server, additional_kwargs={"extra_body": NO_THINKING})
    check_answer(plain.chat(MESSAGES).message.content)


main()
