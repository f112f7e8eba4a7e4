"""Compare how long this version and an earlier one take to measure the same model.

python -m benchmarks.evaluation --before ../earlier --before-python ../earlier-env/bin/python \
    --output docs/evaluation

Both versions convert and log SmolLM2-135M-Instruct (`benchmarks.models.smollm2`, which needs the
package gguf) at cpu_int8. Then each runs its step `measure` on all bundled questions, one version
after the other, and the answers are compared row by row. --before is a checkout of the earlier
version, --before-python the interpreter of an environment with its requirements. Writes measure.md
and measure.json. Needs Linux. Nothing else should run at the same time.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import child_process, process_tree
from benchmarks.harness.command_line import create_parser, parse_with_store, run_main
from benchmarks.harness.installation import CURRENT, Installation
from benchmarks.harness.process_tree import Usage
from benchmarks.models import stored_models
from benchmarks.reports import page
from slmflow.console import messages
from slmflow.pipeline import store
from slmflow.reports import markdown

TARGET = "cpu_int8"  # the same in every version
_FLAVORS = ("transformers", "genai")


@dataclass(frozen=True)
class Measured:
    """The cost of the step, and the content of its `measurements.json` by flavor."""

    usage: Usage
    models: Mapping[str, Mapping[str, Any]]

    def texts(self, flavor: str) -> list[str]:
        """Return the answers, without surrounding white space."""
        return [answer["text"].strip() for answer in self.models[flavor]["answers"]]

    def latency_s(self, flavor: str) -> float:
        """Return the median latency of the rows that were timed."""
        model = self.models[flavor]
        timed = model.get("timings") or model["answers"]
        return float(median(each["latency_s"] for each in timed))

    def logprob(self, flavor: str) -> float:
        """Return the mean log-probability of a token of the expected answers."""
        likelihoods = self.models[flavor]["likelihoods"]
        logprob = sum(float(each["logprob"]) for each in likelihoods)
        return logprob / sum(int(each["tokens"]) for each in likelihoods)


@dataclass(frozen=True)
class Report:
    """Both measurements of the same rows."""

    before: Measured
    after: Measured

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per figure."""
        seconds = [each.usage.seconds for each in (self.before, self.after)]
        yield ["measure, s", *map("{:,.0f}".format, seconds), f"{seconds[1] / seconds[0]:.2f}"]
        peaks = [each.usage.peak_tree_bytes / 1e6 for each in (self.before, self.after)]
        yield ["peak memory, MB", *map("{:,.0f}".format, peaks), f"{peaks[1] / peaks[0]:.2f}"]
        for flavor in _FLAVORS:
            texts = [each.texts(flavor) for each in (self.before, self.after)]
            equal = sum(one == other for one, other in zip(*texts, strict=True))
            yield [f"{flavor}: equal answers", "", "", f"{equal} of {len(texts[0])}"]
            latencies = [each.latency_s(flavor) * 1e3 for each in (self.before, self.after)]
            yield [
                f"{flavor}: median latency, ms",
                *map("{:,.0f}".format, latencies),
                f"{latencies[1] / latencies[0]:.2f}",
            ]
            logprobs = [each.logprob(flavor) for each in (self.before, self.after)]
            yield [
                f"{flavor}: log-probability of a token",
                *map("{:.4f}".format, logprobs),
                f"{logprobs[1] - logprobs[0]:+.4f}",
            ]

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        header = ["figure", "before", "after", "after / before, or difference"]
        notes = [
            page.setup_note([]).removesuffix(", "),
            f"SmolLM2-135M-Instruct at {TARGET}, all rows of `bundled/capitals/evaluation.jsonl`, "
            "both flavors, loading, timings, answers and likelihoods",
        ]
        return page.render(
            "The step measure of two versions", markdown.table(header, self.rows()), notes
        )

    def json(self) -> str:
        """Return all answers, timings and likelihoods."""
        versions = {"before": self.before, "after": self.after}
        fields = {name: dataclasses.asdict(each) for name, each in versions.items()}
        return json.dumps(fields | page.setup_fields(), indent=2)


def measure(before: Installation, weights: Path, work: Path) -> Report:
    """Log the model with both installations, then measure it. Raises UserError if a run fails."""
    installations = {"before": before, "after": CURRENT}
    for name, installation in installations.items():
        for step in ("log_genai", "log_transformers"):
            with _working_folder(work / name):
                command = _command(installation, step, weights)
                status = subprocess.call(command, env=_environment(installation, work / name))
            child_process.check_exit(command, status)
    measured = [_measure(each, weights, work / name) for name, each in installations.items()]
    return Report(*measured)


def _measure(installation: Installation, weights: Path, folder: Path) -> Measured:
    command = _command(installation, "measure", weights)
    with _working_folder(folder):
        usage = process_tree.run(command, _environment(installation, folder))
    child_process.check_exit(command, usage.status)
    newest = max(folder.rglob("measurements.json"), key=lambda file: file.stat().st_mtime)
    models: Sequence[Mapping[str, Any]] = json.loads(newest.read_bytes())["models"]
    return Measured(usage, {each["model"]["flavor"]: each for each in models})


@contextlib.contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    """Work in a folder, where MLflow writes its artifacts."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        yield


def _command(installation: Installation, step: str, weights: Path) -> list[str]:
    overrides = ["model=local", f"model.path={weights}", f"target={TARGET}"]
    return [str(installation.python), "-m", f"steps.{step}", *overrides]


def _environment(installation: Installation, folder: Path) -> dict[str, str]:
    """Return an environment with a store and a tracking database of the version's own."""
    return installation.environment() | {
        "PATH": f"{installation.python.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "SLMFLOW_HOME": str(folder / "home"),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--before-python", type=Path, required=True, help="its interpreter")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    arguments = parse_with_store(parser)
    before = Installation(arguments.before.absolute(), arguments.before_python.absolute())
    report = measure(before, stored_models.smollm2(), store.home() / "measured_versions")
    page.write(report, arguments.output.absolute(), "measure")
    messages.table("before and after", ["figure", "before", "after", "ratio"], report.rows())


if __name__ == "__main__":
    run_main(main)
