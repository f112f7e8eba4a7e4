"""OpenAI Agents, over chat completions and over responses."""

import asyncio
from typing import Any, Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from cells import QUESTION, TOOL_QUESTION, Server, cell, check_answer, main
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)


class Capital(BaseModel):
    country: str
    population: int


def model(server: Server, kind: Any = OpenAIChatCompletionsModel) -> Any:
    client = AsyncOpenAI(base_url=server.api, api_key=server.key, max_retries=0)
    return kind(model=server.model, openai_client=client)


async def _stream(agent: Agent[Any]) -> str:
    pieces = []
    result = Runner.run_streamed(agent, QUESTION)
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            pieces.append(event.data.delta)
    assert len(pieces) > 1
    assert "".join(pieces) == result.final_output
    return "".join(pieces)


def _call_weather(chosen: Any) -> None:
    calls: list[tuple[str, str]] = []

    @function_tool
    def get_weather(city: str, unit: Literal["celsius", "fahrenheit"]) -> str:
        """Return the weather of a city."""
        calls.append((city, unit))
        return f"21 {unit}"

    agent = Agent(
        name="weather",
        model=chosen,
        tools=[get_weather],
        model_settings=ModelSettings(tool_choice="required"),
    )
    result = Runner.run_sync(agent, TOOL_QUESTION, max_turns=4)
    assert calls and result.final_output


@cell("chat")
def chat(server: Server) -> None:
    check_answer(Runner.run_sync(Agent(name="a", model=model(server)), QUESTION).final_output)


@cell("stream")
def stream(server: Server) -> None:
    check_answer(asyncio.run(_stream(Agent(name="a", model=model(server)))))


@cell("JSON schema")
def json_schema(server: Server) -> None:
    agent = Agent(name="a", model=model(server), output_type=Capital)
    assert isinstance(Runner.run_sync(agent, QUESTION).final_output, Capital)


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    @function_tool
    def get_weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    agent = Agent(name="a", model=model(server), tools=[get_weather])
    assert Runner.run_sync(agent, TOOL_QUESTION, max_turns=5).final_output


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """The call, and the answer to its result."""
    _call_weather(model(server))


@cell("responses")
def responses(server: Server) -> None:
    # A client belongs to the event loop of its first request.
    whole, streamed = (Agent(name="a", model=model(server, OpenAIResponsesModel)) for _ in range(2))
    check_answer(Runner.run_sync(whole, QUESTION).final_output)
    check_answer(asyncio.run(_stream(streamed)))


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    _call_weather(model(server, OpenAIResponsesModel))


main()
