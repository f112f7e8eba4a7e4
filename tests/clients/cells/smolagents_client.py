"""smolagents, by its model for OpenAI's API."""

import os

from cells import (
    CAPITAL_SCHEMA,
    NO_THINKING,
    QUESTION,
    TOOL_QUESTION,
    Server,
    cell,
    check_answer,
    check_capital,
    check_weather,
    main,
)

os.environ["SMOLAGENTS_TELEMETRY"] = "0"

from smolagents import ChatMessage, MessageRole, OpenAIModel, Tool, ToolCallingAgent
from smolagents.models import agglomerate_stream_deltas

MESSAGES = [ChatMessage(MessageRole.USER, [{"type": "text", "text": QUESTION}])]
TOOL_MESSAGES = [ChatMessage(MessageRole.USER, [{"type": "text", "text": TOOL_QUESTION}])]


class WeatherTool(Tool):
    name = "get_weather"
    description = "Return the weather of a city."
    inputs = {  # noqa: RUF012 (smolagents' convention)
        "city": {"type": "string", "description": "city"},
        "unit": {"type": "string", "description": "unit", "enum": ["celsius", "fahrenheit"]},
    }
    output_type = "string"

    def forward(self, city: str, unit: str) -> str:
        return f"21 {unit} in {city}"


def model(server: Server, **options: object) -> OpenAIModel:
    return OpenAIModel(server.model, api_base=server.api, api_key=server.key, **options)


@cell("chat")
def chat(server: Server) -> None:
    message = model(server).generate(MESSAGES)
    check_answer(message.content)
    assert message.token_usage and message.token_usage.output_tokens > 0


@cell("stream")
def stream(server: Server) -> None:
    deltas = list(model(server).generate_stream(MESSAGES))
    assert len(deltas) > 2
    check_answer(agglomerate_stream_deltas(deltas).content)


@cell("JSON schema")
def json_schema(server: Server) -> None:
    schema = {"name": "capital", "schema": CAPITAL_SCHEMA, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    check_capital(model(server).generate(MESSAGES, response_format=form).content)


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    message = model(server).generate(
        TOOL_MESSAGES, tools_to_call_from=[WeatherTool()], tool_choice="auto"
    )
    assert message.tool_calls or message.content


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    """A single call, and an agent whose every step is one."""
    message = model(server).generate(TOOL_MESSAGES, tools_to_call_from=[WeatherTool()])
    assert message.tool_calls
    check_weather(message.tool_calls[0].function.arguments)

    agent = ToolCallingAgent([WeatherTool()], model(server, max_tokens=256), verbosity_level=0)
    steps = agent.run(TOOL_QUESTION, max_steps=2, return_full_result=True).steps
    calls = [call for step in steps for call in step.get("tool_calls") or []]
    assert calls and all(
        call["function"]["name"] in ("get_weather", "final_answer") for call in calls
    )


@cell("thinking", needs=("enable_thinking",))
def thinking(server: Server) -> None:
    """It drops the reasoning of any server, so only the switch shows."""
    check_answer(model(server).generate(MESSAGES, extra_body=NO_THINKING).content)


main()
