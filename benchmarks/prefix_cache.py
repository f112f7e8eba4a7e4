"""Measure what the prefix cache and reading in parts save.

python -m benchmarks.prefix_cache --output docs/serving
python -m benchmarks.prefix_cache --shape tiny --rounds 1 --output trial

Writes SHAPE_conversations.md and SHAPE_conversations.json (all raw values) to the output folder.
The machine should be idle otherwise. Requires Linux. The model has random weights, rounded to
nearest. Everything is measured in both ways in alternating rounds, in the process of the model.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.harness import child_process, process_tree
from benchmarks.harness.command_line import (
    add_rounds_and_output,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.paired_rounds import alternate
from benchmarks.models import stored_models
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page
from benchmarks.server_load.token_prompts import TokenModel
from slmflow.config.schema.target import ExporterName
from slmflow.console import progress_bars
from slmflow.reports import markdown
from slmflow.system.child_processes import environment

TARGET = "cpu_int4_rtn"
CACHE_MB = 1024

# Tokens of a conversation's first turn, of an answer, and of the next question.
FIRST_TURN, ANSWER, QUESTION = 1400, 64, 40
PROMPT_BESIDE_STREAM, CANCELLED_PROMPT, MEMORY_PROMPT = 1500, 6000, 1500

# The first steps of a stream are slower.
_STREAM_STARTS = 5

# A client that leaves does so after this many seconds.
LEAVES_S = 2.0


@dataclass(frozen=True)
class Conversation:
    """Seconds to the first token of two turns, and the tokens of the second answer."""

    first_s: float
    second_s: float
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """All values, one per round; the second of each pair is without the cache or parts.

    gaps_s: the longest wait of a stream while a prompt is read; freed_s: from a cancellation to the
    end of the request; peak_bytes: of a process that reads a prompt.
    """

    shape: str
    cancelled_tokens: int
    cached: tuple[Conversation, ...]
    uncached: tuple[Conversation, ...]
    kept_bytes: int
    gaps_s: tuple[tuple[float, ...], tuple[float, ...]]
    freed_s: tuple[tuple[float, ...], tuple[float, ...]]
    peak_bytes: tuple[tuple[int, ...], tuple[int, ...]]

    def markdown(self) -> str:
        """Return the page."""
        rows = [
            (
                f"time to first token of turn 2 over turn 1, {FIRST_TURN:,} tokens",
                *(
                    f"{median(each.second_s / each.first_s for each in turns):.3f}"
                    for turns in (self.cached, self.uncached)
                ),
            ),
            (
                f"longest wait of a stream while {PROMPT_BESIDE_STREAM:,} tokens are read, s",
                *(f"{median(gaps):.2f}" for gaps in self.gaps_s),
            ),
            (
                f"from the cancellation of {self.cancelled_tokens:,} tokens to its end, s",
                *(f"{median(seconds):.2f}" for seconds in self.freed_s),
            ),
            (
                f"peak memory of a process that reads {MEMORY_PROMPT:,} tokens, MB",
                *(f"{median(peaks) / 1e6:.0f}" for peaks in self.peak_bytes),
            ),
        ]
        table = markdown.table(["measured", "now", "whole, without cache"], rows)
        equal = sum(
            one.answer == other.answer
            for one, other in zip(self.cached, self.uncached, strict=True)
        )
        notes = [
            f"{self.shape}, {TARGET}, medians of {len(self.cached)} alternating rounds",
            f"{equal} of {len(self.cached)} second answers are the same with and without the cache",
            f"the cache of {CACHE_MB} MB held {self.kept_bytes / 2**20:.0f} MB at the end",
            page.setup_note(("onnxruntime-genai",)),
        ]
        return page.render("Conversations and long prompts", table, notes)

    def json(self) -> str:
        """Return all raw values."""
        return json.dumps(dataclasses.asdict(self) | page.setup_fields(), indent=2)


def measure(shape: str, rounds: int) -> Report:
    """Build the model unless it is built, and measure."""
    weights = stored_models.random_weights(shape)
    folder = stored_models.onnx_model(weights, TARGET, ExporterName.optimum)
    peaks = alternate(
        "memory", lambda _: _peak(folder, "parts"), lambda _: _peak(folder, "whole"), rounds
    )
    with progress_bars.spinner("loading the model"):
        model = TokenModel(folder)
    cached, uncached = alternate(
        "conversations",
        lambda number: _converse(model, number, CACHE_MB),
        lambda number: _converse(model, number, 0),
        rounds,
    )
    model.limit_cache(CACHE_MB)
    for number in range(10):  # more conversations than it has room for
        model.run(model.text(FIRST_TURN, 1000 + number), 4)
    kept_bytes = model.kept_bytes
    tokens = min(CANCELLED_PROMPT, model.context_length - ANSWER)
    gaps = _in_both_ways(model, "beside a stream", _longest_gap, rounds)
    freed = _in_both_ways(
        model, "cancelled", lambda of, number: _freed_s(of, number, tokens), rounds
    )
    return Report(shape, tokens, cached, uncached, kept_bytes, gaps, freed, peaks)


def _converse(model: TokenModel, number: int, cache_mb: int) -> Conversation:
    """Take two turns of a conversation; with a cache, after another one."""
    model.limit_cache(cache_mb)
    first = model.run(model.text(FIRST_TURN, number), ANSWER)
    history = [*model.text(FIRST_TURN, number), *first.request.generated]
    second = model.run([*history, *model.text(QUESTION, number)], ANSWER)
    return Conversation(first.first_s, second.first_s, tuple(second.request.generated))


def _longest_gap(model: TokenModel, number: int) -> float:
    """Return the longest time between two tokens of a stream while a prompt is read."""
    stream = model.start(model.text(100, number), 10 * ANSWER, streamed=True)
    while len(stream.times) < _STREAM_STARTS:
        time.sleep(process_tree.SAMPLE_S)
    long = model.start(model.text(PROMPT_BESIDE_STREAM, number), 1)
    long.wait()
    stream.request.cancel()
    stream.wait()
    times = stream.times[_STREAM_STARTS:]
    return max(after - before for before, after in pairwise(times) if before < long.ended_at)


def _freed_s(model: TokenModel, number: int, tokens: int) -> float:
    """Return how long a request goes on after its client has left."""
    run = model.start(model.text(tokens, number), ANSWER, streamed=True)
    time.sleep(LEAVES_S)
    run.request.cancel()
    cancelled_at = time.perf_counter()
    run.wait()
    return run.ended_at - cancelled_at


def _in_both_ways(
    model: TokenModel, label: str, measured: Callable[[TokenModel, int], float], rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure prompts that are read in parts, and as a whole, without a cache."""

    def run(number: int, in_parts: bool) -> float:
        model.limit_cache(0)
        model.read_in_parts(in_parts)
        return measured(model, number)

    results = alternate(label, lambda n: run(n, True), lambda n: run(n, False), rounds)
    model.read_in_parts(True)
    return results


def _peak(folder: Path, how: str) -> int:
    """Return the peak memory of a process that reads a prompt."""
    module = "benchmarks.harness.read_once"
    command = [sys.executable, "-m", module, str(folder), str(MEMORY_PROMPT), how]
    usage = process_tree.run(command, environment())
    child_process.check_exit(command, usage.status)
    return usage.peak_process_bytes


def main() -> None:
    """Parse the command line and measure."""
    parser = create_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    add_rounds_and_output(parser, rounds=6)
    arguments = parse_with_store(parser)
    report = measure(arguments.shape, arguments.rounds)
    page.write(report, arguments.output, f"{arguments.shape}_conversations")


if __name__ == "__main__":
    run_main(main)
