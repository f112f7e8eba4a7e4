"""aiperf: a load of a few requests by its command."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import Server, cell, main

REQUESTS = 4


def run(server: Server, endpoint: str, *options: str) -> None:
    """Send a load and assert that every request succeeded."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(Path(sys.executable).with_name("aiperf"), "profile"),
            *("--model", server.model, "--url", server.url, "--api-key", server.key),
            *("--endpoint-type", endpoint, "--tokenizer", server.tokenizer),
            *("--request-count", str(REQUESTS), "--concurrency", "2"),
            *("--isl", "24", "--osl", "8", "--ui-type", "none"),
            *("--output-artifact-dir", folder, *options),
        ]
        # Offline it takes a tokenizer from the hub's cache only, not from a folder.
        offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        environment = {name: text for name, text in os.environ.items() if name not in offline}
        result = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        records = [
            json.loads(line)
            for file in Path(folder).rglob("profile_export.jsonl")
            for line in file.read_text().splitlines()
        ]
    errors = [record["error"] for record in records if record.get("error")]
    if errors:
        raise RuntimeError(json.dumps(errors[0]))
    if result.returncode or len(records) != REQUESTS:
        raise RuntimeError(
            f"{len(records)} records\n{result.stderr[-4000:]}{result.stdout[-4000:]}"
        )


@cell("chat")
def chat(server: Server) -> None:
    run(server, "chat")


@cell("stream")
def stream(server: Server) -> None:
    run(server, "chat", "--streaming")


@cell("completions")
def completions(server: Server) -> None:
    run(server, "completions", "--streaming")


@cell("responses")
def responses(server: Server) -> None:
    run(server, "responses", "--streaming")


@cell("embeddings", refused="/v1/embeddings")
def embeddings(server: Server) -> None:
    run(server, "embeddings")


main()
