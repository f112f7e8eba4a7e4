"""Instructor, in its modes for JSON schemas and tools."""

from typing import Any, Literal

import instructor
from cells import QUESTION, TOOL_QUESTION, Server, cell, main
from openai import OpenAI
from pydantic import BaseModel


class Capital(BaseModel):
    country: str
    population: int


class Weather(BaseModel):
    """Ask for the weather of a city."""

    city: str
    unit: Literal["celsius", "fahrenheit"]


def client(server: Server, mode: instructor.Mode) -> Any:
    plain = OpenAI(base_url=server.api, api_key=server.key, max_retries=0)
    return instructor.from_openai(plain, mode=mode)


def ask(server: Server, mode: instructor.Mode, kind: Any, question: str) -> Any:
    return client(server, mode).chat.completions.create(
        model=server.model,
        messages=[{"role": "user", "content": question}],
        response_model=kind,
        max_retries=0,
    )


@cell("stream")
def stream(server: Server) -> None:
    """Partial objects, by JSON schema."""
    partial = client(server, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=server.model,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Capital,
        max_retries=0,
    )
    last = list(partial)[-1]
    assert isinstance(last.country, str) and isinstance(last.population, int)


@cell("JSON schema")
def json_schema(server: Server) -> None:
    assert isinstance(ask(server, instructor.Mode.JSON_SCHEMA, Capital, QUESTION), Capital)


@cell("tools, required", needs=("tools",))
def tools_required(server: Server) -> None:
    assert isinstance(ask(server, instructor.Mode.TOOLS, Weather, TOOL_QUESTION), Weather)
    assert isinstance(ask(server, instructor.Mode.TOOLS_STRICT, Weather, TOOL_QUESTION), Weather)


@cell("responses, tools", needs=("tools",))
def responses_tools(server: Server) -> None:
    kind = instructor.Mode.RESPONSES_TOOLS
    assert isinstance(ask(server, kind, Weather, TOOL_QUESTION), Weather)


main()
