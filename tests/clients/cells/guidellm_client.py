"""guidellm: a load of a few requests by its command."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import Server, cell, main

REQUESTS = 4


def run(
    server: Server, request_format: str, *, stream: bool = True, fixed_length: bool = False
) -> None:
    """Send a load and assert that every request succeeded."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        backend = {
            "kind": "openai_http",
            "target": server.url,
            "model": server.model,
            "api_key": server.key,
            "request_format": request_format,
            "stream": stream,
            "max_tokens": 8,
        }
        prompts = Path(folder, "prompts.txt")
        prompts.write_text("".join(f"Name the capital of country {n}.\n" for n in range(REQUESTS)))
        data = (
            {"kind": "synthetic_text", "prompt_tokens": 24, "output_tokens": 8}
            if fixed_length
            else {"kind": "text_file", "path": str(prompts)}
        )
        options = {
            "--backend": backend,
            "--profile": {"kind": "concurrent", "streams": 2},
            "--constraint": {"kind": "max_requests", "count": REQUESTS},
            "--tokenizer": {"kind": "hf_auto", "model": server.tokenizer},
            "--data": data,
            "--output": {"kind": "json", "path": str(report)},
        }
        arguments = [each for name, value in options.items() for each in (name, json.dumps(value))]
        result = subprocess.run(
            [Path(sys.executable).with_name("guidellm"), "run", *arguments, "--disable-console"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode or not report.exists():
            raise RuntimeError(result.stderr[-4000:] + result.stdout[-4000:])
        [benchmark] = json.loads(report.read_text())["benchmarks"]
    if errored := benchmark["requests"]["errored"]:
        raise RuntimeError(errored[0]["info"]["error"])
    assert benchmark["metrics"]["request_totals"]["successful"] == REQUESTS


@cell("chat")
def chat(server: Server) -> None:
    run(server, "/v1/chat/completions", stream=False)


@cell("stream")
def stream(server: Server) -> None:
    run(server, "/v1/chat/completions")


@cell("completions")
def completions(server: Server) -> None:
    run(server, "/v1/completions")


@cell("responses")
def responses(server: Server) -> None:
    run(server, "/v1/responses")


@cell("fixed length", refused="400 Bad Request")
def fixed_length(server: Server) -> None:
    """Completions that go on after an end token (`ignore_eos`), which its synthetic data ask for.

    It shows the status only, not the server's message, which names the option.
    """
    run(server, "/v1/chat/completions", fixed_length=True)


main()
