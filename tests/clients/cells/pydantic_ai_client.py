"""Pydantic AI."""

from typing import Any, Literal

from cells import NO_THINKING, QUESTION, THINKING, TOOL_QUESTION, Server, cell, check_answer, main
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ThinkingPart, ToolCallPart, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits


class Capital(BaseModel):
    country: str
    population: int


class Weather(BaseModel):
    city: str
    unit: Literal["celsius", "fahrenheit"]


def chat_model(server: Server) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=server.api, api_key=server.key)
    return OpenAIChatModel(server.model, provider=provider)


def responses_model(server: Server) -> OpenAIResponsesModel:
    provider = OpenAIProvider(base_url=server.api, api_key=server.key)
    return OpenAIResponsesModel(server.model, provider=provider)


@cell("chat")
def chat(server: Server) -> None:
    result = Agent(chat_model(server)).run_sync(QUESTION)
    check_answer(result.output)


@cell("stream")
def stream(server: Server) -> None:
    result = Agent(chat_model(server)).run_stream_sync(QUESTION)
    pieces = list(result.stream_text(delta=True, debounce_by=None))
    assert len(pieces) > 1
    check_answer("".join(pieces))


@cell("JSON schema")
def json_schema(server: Server) -> None:
    result = Agent(chat_model(server), output_type=NativeOutput(Capital)).run_sync(QUESTION)
    assert isinstance(result.output, Capital)


def _with_tool(model: Any) -> tuple[Agent[None, str], list[str]]:
    cities: list[str] = []
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
        """Return the weather of a city."""
        cities.append(city)
        return f"21 {unit}"

    return agent, cities


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    agent, cities = _with_tool(chat_model(server))
    result = agent.run_sync(TOOL_QUESTION, usage_limits=UsageLimits(request_limit=5))
    calls = [p for m in result.all_messages() for p in m.parts if isinstance(p, ToolCallPart)]
    assert len(cities) <= len(calls)
    assert result.output


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """The output is a tool that must be called."""
    result = Agent(chat_model(server), output_type=ToolOutput(Weather)).run_sync(TOOL_QUESTION)
    assert isinstance(result.output, Weather)


@cell("responses")
def responses(server: Server) -> None:
    check_answer(Agent(responses_model(server)).run_sync(QUESTION).output)
    result = Agent(responses_model(server)).run_stream_sync(QUESTION)
    check_answer("".join(result.stream_text(delta=True, debounce_by=None)))


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    agent = Agent(responses_model(server), output_type=ToolOutput(Weather))
    assert isinstance(agent.run_sync(TOOL_QUESTION).output, Weather)


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """The reasoning is apart from the answer, and the request switches it off."""
    agent = Agent(chat_model(server))
    settings: Any = {"extra_body": THINKING, "max_tokens": 24}
    parts: list[Any] = []
    try:
        parts += agent.run_sync(QUESTION, model_settings=settings).all_messages()[-1].parts
    except Exception as error:  # the answer was cut within its reasoning
        assert "token limit" in str(error), error
    plain = agent.run_sync(QUESTION, model_settings={"extra_body": NO_THINKING})
    assert not any(isinstance(part, ThinkingPart) for part in plain.all_messages()[-1].parts)
    check_answer(plain.output)


main()
