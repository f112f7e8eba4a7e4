"""Run one client's cells against a server, and print a JSON line for each.

The clients' environments have none of slmflow's packages: this module needs the standard library
only.
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUESTION = "Name the capital of France."
ANSWER = "Paris"

PROMPT = "The capital of France is"

TOOL_QUESTION = "What is the weather in Paris, in celsius?"

UNITS = ("celsius", "fahrenheit")

# Client libraries take a JSON schema or a pydantic model; both mean the same.
WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": list(UNITS)}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
CAPITAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"country": {"type": "string"}, "population": {"type": "integer"}},
    "required": ["country", "population"],
    "additionalProperties": False,
}

NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}


@dataclass(frozen=True)
class Server:
    """The server to ask.

    url: without /v1. tokenizer: a folder with the model's tokenizer. abilities: what the served
    model can do beyond chat, such as `tools`. origins: of two web pages; the server allows the
    first one.
    """

    url: str
    model: str
    key: str
    tokenizer: str
    abilities: tuple[str, ...]
    origins: tuple[str, ...] = ()

    @property
    def api(self) -> str:
        """The base URL of OpenAI's API."""
        return f"{self.url}/v1"


@dataclass(frozen=True)
class _Cell:
    feature: str
    run: Callable[[Server], None]
    refused: str | None
    needs: tuple[str, ...]

    def refusal(self, server: Server) -> str | None:
        """Return what the server must name when it refuses, None if the cell must work."""
        missing = [ability for ability in self.needs if ability not in server.abilities]
        return missing[0] if missing else self.refused


_CELLS: list[_Cell] = []

Function = Callable[[Server], None]


def cell(
    feature: str, *, refused: str | None = None, needs: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Register a function as the cell of a feature.

    refused: the option or endpoint that the server's message must name, since it refuses this.
    needs: abilities of the model; without one the server must refuse and name it.
    """

    def register(function: Function) -> Function:
        _CELLS.append(_Cell(feature, function, refused, needs))
        return function

    return register


def check_weather(arguments: str | dict[str, Any]) -> None:
    """Assert that the arguments of a tool call are valid: those of `WEATHER_SCHEMA`."""
    values = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert isinstance(values, dict) and values.keys() == {"city", "unit"}, values
    assert isinstance(values["city"], str), values
    assert values["unit"] in UNITS, values


def check_capital(value: str | dict[str, Any]) -> None:
    """Assert that a text or an object is one of `CAPITAL_SCHEMA`."""
    values = json.loads(value) if isinstance(value, str) else value
    assert isinstance(values, dict) and values.keys() == {"country", "population"}, values
    assert isinstance(values["country"], str), values
    assert type(values["population"]) is int, values


def check_answer(text: str | None) -> None:
    """Assert that a text answers `QUESTION`."""
    assert text and ANSWER in text, text


def main() -> None:
    """Run all registered cells on the server that the first argument describes, as JSON."""
    fields = json.loads(sys.argv[1])
    server = Server(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    for each in _CELLS:
        print(json.dumps({"feature": each.feature, **_outcome(each, server)}), flush=True)


def _outcome(each: _Cell, server: Server) -> dict[str, str]:
    expected = each.refusal(server)
    try:
        each.run(server)
    except (Exception, SystemExit) as error:
        message = _messages(error)
        if expected is not None and expected in message:
            return {"outcome": "refused", "message": message}
        traceback.print_exc()
        return {"outcome": "failed", "message": message}
    if expected is not None:
        return {"outcome": "failed", "message": f"was not refused with a message of {expected}"}
    return {"outcome": "works", "message": ""}


def _messages(error: BaseException) -> str:
    """Return the texts of an error and of those that caused it."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        texts.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(texts)
