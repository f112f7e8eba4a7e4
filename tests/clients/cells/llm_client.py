"""The command `llm`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cells import (
    ANSWER,
    CAPITAL_SCHEMA,
    PROMPT,
    QUESTION,
    TOOL_QUESTION,
    Server,
    cell,
    check_answer,
    check_capital,
    main,
)

FUNCTION = '''
def get_weather(city: str, unit: str) -> str:
    """Return the weather of a city."""
    return f"21 {unit} in {city}"
'''


def run(server: Server, *arguments: str, **settings: Any) -> str:
    """Return what the command prints; its models are in a file, as its documentation says."""
    entry = {
        "model_id": "local",
        "model_name": server.model,
        "api_base": server.api,
        "api_key_name": "local",
        **settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps([entry]))
        Path(folder, "keys.json").write_text(json.dumps({"local": server.key}))
        result = subprocess.run(
            [Path(sys.executable).with_name("llm"), "prompt", "-m", "local", *arguments],
            env=os.environ | {"LLM_USER_PATH": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise RuntimeError(result.stderr)
    return result.stdout


@cell("chat")
def chat(server: Server) -> None:
    check_answer(run(server, QUESTION, "--no-stream"))


@cell("stream")
def stream(server: Server) -> None:
    check_answer(run(server, QUESTION))


@cell("completions")
def completions(server: Server) -> None:
    assert run(server, PROMPT, "-o", "max_tokens", "8", completion=True).strip()


@cell("JSON schema")
def json_schema(server: Server) -> None:
    schema = json.dumps(CAPITAL_SCHEMA)
    check_capital(run(server, QUESTION, "--schema", schema, supports_schema=True))


@cell("tools, auto", needs=("tools",))
def tools_auto(server: Server) -> None:
    options = ("--functions", FUNCTION, "--chain-limit", "5")
    assert run(server, TOOL_QUESTION, *options, supports_tools=True).strip()


@cell("responses")
def responses(server: Server) -> None:
    assert ANSWER in run(server, QUESTION, responses=True)


main()
