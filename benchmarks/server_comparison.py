"""Compare the server with an earlier version of the project and with llama.cpp's server.

python -m benchmarks.server_comparison --before ../earlier --before-python ../env/bin/python \
    --gguf model.Q4_K_M.gguf --llama-python ../llama-env/bin/python --output docs/serving

All serve SmolLM2-135M-Instruct at the same time and are asked in alternating rounds: one stream,
many streams, and a long conversation. --before is a checkout of the earlier version,
--before-python the interpreter of an environment with its requirements. --llama-python is that of
an environment with requirements-llama-cpp.txt; llama.cpp quantizes a file that
`benchmarks.models.gguf_file` wrote. Without these a server is left out. Needs Linux and the
package gguf. Writes NAME.md and NAME.json.
"""

import dataclasses
import json
import os
import subprocess
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from joblib import cpu_count

from benchmarks.harness.command_line import (
    add_rounds_and_output,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.installation import Installation
from benchmarks.harness.paired_rounds import alternate_all
from benchmarks.harness.timings import ratio_of_medians
from benchmarks.models import logged_models, stored_models
from benchmarks.reports import page
from benchmarks.server_load import conversation, streams
from benchmarks.server_load.conversation import Turn
from benchmarks.server_load.memory import PeakMemory
from benchmarks.server_load.prompts import NEW_TOKENS
from benchmarks.server_load.server import RunningServer, run_server, serving
from benchmarks.server_load.streams import Round
from slmflow.console import messages
from slmflow.reports import markdown

STREAMS = 8
TARGET = "cpu_balanced"
# The earlier version had neither calibration nor the name; its target of 4 bits.
BEFORE_TARGET = "cpu_int4"
# Of each stream of llama.cpp, which reserves it; slmflow's grows with the text.
_CONTEXT = 2048
# A conversation of about 1,400 tokens.
_STORY_WORDS = 1150
_LLAMA_CPP_SCRIPT = Path(__file__).parent / "server_load" / "llama_cpp_server.py"
_PACKAGES = ("mlflow", "onnxruntime-genai", "openai")

BEFORE, NOW, LLAMA_CPP = "before", "slmflow", "llama.cpp"


@dataclass(frozen=True)
class Visit:
    """One round of one server: one stream, many streams, and the turns of a conversation."""

    alone: Round
    together: Round
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Served:
    """All rounds of one server. Memory is that of all its processes; idle: before any request."""

    rounds: Sequence[Visit]
    idle_bytes: int
    peak_bytes: int

    def first_s(self, turn: int) -> list[float]:
        """Return the seconds to the first text of a turn, one value per round."""
        return [visit.turns[turn].first_s for visit in self.rounds]


@dataclass(frozen=True)
class Report:
    """The measurements of each server, by its name."""

    servers: Mapping[str, Served]
    notes: Sequence[str]

    def header(self) -> list[str]:
        """Return the titles of the columns."""
        return ["figure", *self.servers]

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per figure: medians over the rounds."""
        yield self._row("1 stream, tokens/s", lambda v: v.alone.tokens_per_s)
        yield self._row(f"{STREAMS} streams, tokens/s", lambda v: v.together.tokens_per_s)
        yield self._row("1 stream, first text, ms", lambda v: v.alone.streams[0].first_s * 1e3)
        served = self.servers.values()
        for turn in range(conversation.TURNS):
            medians = (median(each.first_s(turn)) for each in served)
            yield [
                f"conversation, turn {turn + 1}, first text, ms",
                *(f"{each * 1e3:,.0f}" for each in medians),
            ]
        for turn in range(1, conversation.TURNS):
            ratios = (ratio_of_medians(each.first_s(turn), each.first_s(0)) for each in served)
            yield [f"turn {turn + 1} to turn 1", *(f"{ratio or 0:.3f}" for ratio in ratios)]
        yield [
            "memory before the first request, MB",
            *(f"{s.idle_bytes / 1e6:,.0f}" for s in served),
        ]
        yield ["memory at the peak, MB", *(f"{s.peak_bytes / 1e6:,.0f}" for s in served)]

    def _row(self, name: str, value: Callable[[Visit], float]) -> list[str]:
        medians = (median(map(value, served.rounds)) for served in self.servers.values())
        return [name, *(f"{each:,.0f}" for each in medians)]

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        first = next(iter(self.servers.values()))
        lengths = sorted(visit.turns[0].prompt_tokens for visit in first.rounds)
        notes = [
            page.setup_note(_PACKAGES),
            f"medians of {len(first.rounds)} alternating rounds of all servers on the same cores; "
            f"streams of {NEW_TOKENS} new tokens; a conversation whose first prompt has "
            f"{lengths[0]:,} to {lengths[-1]:,} tokens; no two rounds have a text in common",
            "memory: resident, of all processes of the server, which keep mapped files too",
            *self.notes,
        ]
        table = markdown.table(self.header(), self.rows())
        return page.render("SmolLM2-135M-Instruct, served", table, notes)

    def json(self) -> str:
        """Return every raw value."""
        servers = {name: dataclasses.asdict(served) for name, served in self.servers.items()}
        return json.dumps({"servers": servers, **page.setup_fields(_PACKAGES)}, indent=2)


def measure(servers: Mapping[str, RunningServer], rounds: int, notes: Sequence[str]) -> Report:
    """Ask all servers in alternating rounds."""
    idle = {name: server.rss_bytes() for name, server in servers.items()}
    with ExitStack() as stack:
        peaks = {name: stack.enter_context(PeakMemory(server)) for name, server in servers.items()}
        visits = alternate_all(
            "servers",
            {name: partial(_visit, each, each.model) for name, each in servers.items()},
            rounds,
        )
    return Report(
        {name: Served(visits[name], idle[name], peaks[name].bytes) for name in servers}, notes
    )


def _visit(server: RunningServer, model: str, number: int) -> Visit:
    texts = [
        f"Write a long story about this: {conversation.story(20, number * STREAMS + index)}"
        for index in range(STREAMS)
    ]
    alone = f"Write a long tale about this: {conversation.story(20, number)}"
    return Visit(
        streams.run_round(server, model, [alone]),
        streams.run_round(server, model, texts),
        conversation.measure(server, model, _STORY_WORDS, number),
    )


def _start_servers(
    arguments: Namespace, weights: Path, stack: ExitStack
) -> tuple[dict[str, RunningServer], list[str]]:
    """Start the servers that are given; return them and a note on each."""
    servers: dict[str, RunningServer] = {}
    notes = []
    overrides = ["model=local", f"model.path={weights}"]
    if arguments.before:
        before = Installation(arguments.before.absolute(), arguments.before_python.absolute())
        with logged_models.use_tracking_folder(arguments.work / "served_before"):
            uri = logged_models.log_with(before, [*overrides, f"target={BEFORE_TARGET}"])
            servers[BEFORE] = stack.enter_context(serving(uri, installation=before))
        notes.append(f"{BEFORE}: commit {_commit(before.project)}, at its {BEFORE_TARGET}")
    with logged_models.use_tracking_folder(arguments.work / "served_now"):
        uri = logged_models.ensure_logged([*overrides, f"target={TARGET}"]).model_uri
        servers[NOW] = stack.enter_context(serving(uri))
    notes.append(f"{NOW}: this version, at {TARGET}")
    if arguments.gguf:
        command = [
            *(str(arguments.llama_python.absolute()), str(_LLAMA_CPP_SCRIPT)),
            *map(str, (arguments.gguf.absolute(), STREAMS, _CONTEXT, cpu_count())),
        ]
        servers[LLAMA_CPP] = stack.enter_context(run_server(command, os.environ))
        version, size = _llama_cpp_version(arguments.llama_python), arguments.gguf.stat().st_size
        notes.append(
            f"{LLAMA_CPP}: its own server in xllamacpp {version}, {arguments.gguf.name} of "
            f"{size / 1e6:,.1f} MB, compiled for AVX2, KV cache in fp16"
        )
    return servers, notes


def _llama_cpp_version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('xllamacpp'))"
    return subprocess.run(
        [str(python), "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def _commit(checkout: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


def main() -> None:
    """Run the comparison from the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--before", type=Path, help="checkout to compare with")
    parser.add_argument("--before-python", type=Path, help="its interpreter")
    parser.add_argument("--gguf", type=Path, help="file for llama.cpp")
    parser.add_argument("--llama-python", type=Path, help="interpreter with xllamacpp")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: SmolLM2, built)")
    parser.add_argument("--name", default="smollm2", help="of the files (%(default)s)")
    add_rounds_and_output(parser, rounds=5)
    arguments = parse_with_store(parser)
    for option, other in (("before", "before_python"), ("gguf", "llama_python")):
        if (getattr(arguments, option) is None) != (getattr(arguments, other) is None):
            parser.error(f"--{option} and --{other.replace('_', '-')} belong together")
    weights = arguments.weights.absolute() if arguments.weights else stored_models.smollm2()
    with ExitStack() as stack:
        servers, notes = _start_servers(arguments, weights, stack)
        report = measure(servers, arguments.rounds, notes)
    page.write(report, arguments.output, arguments.name)
    messages.table("servers", report.header(), report.rows())


if __name__ == "__main__":
    run_main(main)
