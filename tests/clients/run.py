"""Run real clients against the server and write the table of what works.

python -m tests.clients.run --output docs/clients.md
python -m tests.clients.run --model bundled --clients openai_client litellm_client

Needs uv, Node.js and npm, Chromium, and a package index for the clients' environments. Exits with
status 1 if a cell neither works nor is refused by name.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import logged_models
from slmflow.console import messages
from slmflow.pipeline import store
from tests.clients import environments, served_models, table
from tests.clients.environments import Environments
from tests.clients.table import FAILED, Outcome, Table

# A client may retry for long before it gives up.
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Client:
    """A client: its name, the environment and the package that it is in, and its script."""

    name: str
    environment: str
    package: str
    script: str

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    @property
    def version(self) -> str:
        """The pinned version of its package."""
        if self.environment == "node":
            packages = json.loads((environments.FOLDER / "js" / "package.json").read_text())
            return str(packages["dependencies"][self.package])
        return environments.version(self.environment, self.package)


CLIENTS = (
    Client("openai, Python", "openai", "openai", "openai_client.py"),
    Client("openai, JavaScript", "node", "openai", "openai_client.mjs"),
    Client("LangChain", "openai", "langchain-openai", "langchain_client.py"),
    Client("LiteLLM", "openai", "litellm", "litellm_client.py"),
    Client("Instructor", "instructor", "instructor", "instructor_client.py"),
    Client("Pydantic AI", "openai", "pydantic-ai-slim", "pydantic_ai_client.py"),
    Client("OpenAI Agents", "openai", "openai-agents", "openai_agents_client.py"),
    Client("AI SDK, openai", "node", "@ai-sdk/openai", "ai_sdk_openai.mjs"),
    Client(
        "AI SDK, openai-compatible", "node", "@ai-sdk/openai-compatible", "ai_sdk_compatible.mjs"
    ),
    Client("llm", "openai", "llm", "llm_client.py"),
    Client("smolagents", "openai", "smolagents", "smolagents_client.py"),
    Client("LlamaIndex", "llama_index", "llama-index-llms-openai-like", "llama_index_client.py"),
    Client("DSPy", "openai", "dspy", "dspy_client.py"),
    Client("lm-evaluation-harness", "lm_eval", "lm-eval", "lm_eval_client.py"),
    Client("guidellm", "guidellm", "guidellm", "guidellm_client.py"),
    Client("aiperf", "aiperf", "aiperf", "aiperf_client.py"),
    Client("Chromium, playwright", "project", "playwright", "chromium_client.py"),
)


def run(
    server: Mapping[str, Any], clients: tuple[Client, ...], made: Environments
) -> Iterator[tuple[str, list[Outcome]]]:
    """Yield each client's title and the outcomes of its cells."""
    for client in clients:
        outcomes = list(_run_client(client, server, made))
        for each in outcomes:
            messages.info(f"{client.title}, {each.feature}: {each.outcome}")
        yield client.title, outcomes


def _run_client(client: Client, server: Mapping[str, Any], made: Environments) -> Iterator[Outcome]:
    command = [*made.command(client.environment, client.script), json.dumps(server)]
    with tempfile.TemporaryDirectory() as home:
        try:
            result = subprocess.run(
                command,
                env=environments.variables(Path(home)),
                stdout=subprocess.PIPE,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            output, status = result.stdout, result.returncode
        except subprocess.TimeoutExpired as error:
            captured = error.stdout or b""
            output = captured.decode() if isinstance(captured, bytes) else captured
            status = -1
    for line in output.splitlines():
        if line.startswith('{"feature"'):
            yield Outcome(**json.loads(line))
    if status:
        yield Outcome("chat", FAILED, f"the script ended with status {status}")


def main() -> None:
    """Run the clients from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        nargs="+",
        default=[served_models.SMOLLM2, served_models.BUNDLED],
        help="bundled, smollm2 or a checkpoint's folder",
    )
    parser.add_argument("--clients", nargs="+", help="names of scripts, all by default")
    parser.add_argument("--output", type=Path, help="the page")
    parser.add_argument(
        "--environments", type=Path, default=environments.DEFAULT_HOME, help="their folder"
    )
    arguments = parser.parse_args()
    chosen = tuple(
        client
        for client in CLIENTS
        if arguments.clients is None or Path(client.script).stem in arguments.clients
    )
    output = arguments.output and arguments.output.absolute()
    made = Environments(arguments.environments.absolute())
    with logged_models.use_tracking_folder(store.home() / "clients"):
        tables = [_run_model(name, chosen, made) for name in arguments.model]
    text = table.page(tables)
    print(text)
    if output:
        output.write_text(text)
    failures = [failure for each in tables for failure in each.failures]
    for failure in failures:
        messages.error(failure)
    sys.exit(1 if failures else 0)


def _run_model(name: str, clients: tuple[Client, ...], made: Environments) -> Table:
    model = served_models.find(name)
    with served_models.serve(model) as server:
        return Table(model.title, dict(run(server, clients, made)))


if __name__ == "__main__":
    main()
