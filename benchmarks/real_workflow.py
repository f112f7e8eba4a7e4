"""Run the whole workflow on SmolLM2-135M-Instruct for all CPU targets.

python -m benchmarks.real_workflow --output docs/real

The model comes from a package (`benchmarks.models.smollm2`), which needs the package gguf. Each
target is a run of `main` on the bundled questions. Writes smollm2.md and smollm2.json, and the
comparison of the last target as smollm2.png.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow

from benchmarks.harness.child_process import check_exit
from benchmarks.harness.command_line import create_parser, parse_with_store, run_main
from benchmarks.models import logged_models, stored_models
from benchmarks.reports import page
from slmflow.config import config_keys
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import store
from slmflow.pipeline.results import Evaluation
from slmflow.reports import markdown, verdict_sentence
from slmflow.reports.formatting import format_metric

TARGETS = ("cpu_fp32", "cpu_int8", "cpu_balanced", "cpu_int4_rtn", "cpu_int4")
_PACKAGES = ("transformers", "onnxruntime-genai", "torch", "mlflow")
_PNG = "comparison.png"


@dataclass(frozen=True)
class Report:
    """The comparison at each target; the plot is that of the last."""

    comparisons: Sequence[Comparison]
    plot: Path

    def models(self) -> list[ModelMetrics]:
        """Return the metrics of the reference of the last comparison, then of each target."""
        reference = self.comparisons[-1].reference
        return [*([reference] if reference else []), *(each.compared for each in self.comparisons)]

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per metric, with intervals."""
        models = self.models()
        for name in self.comparisons[-1].metric_names:
            yield [f"`{name}`", *(format_metric(model, name).text for model in models)]

    def markdown(self) -> str:
        """Return the table, the verdict on each target, and notes."""
        header = ["metric", *map(self._label, self.models())]
        verdicts = [
            f"**{each.compared.target}**: {markdown.text(verdict_sentence.render(each))}"
            for each in self.comparisons
        ]
        notes = [
            page.setup_note(_PACKAGES),
            f"{self.comparisons[-1].compared.n} questions of `bundled/capitals`, greedy answers",
            "the weights of SmolLM2-135M-Instruct are those of a public 4-bit file, moved off its "
            "grid by noise of half a step, so that rounding them again is not free",
            "in parentheses: 95 % confidence interval",
        ]
        table = markdown.table(header, self.rows())
        return page.render("SmolLM2-135M-Instruct", f"{table}\n\n{page.bullets(verdicts)}", notes)

    def _label(self, model: ModelMetrics) -> str:
        is_reference = model == self.comparisons[-1].reference
        return f"{model.flavor}, {model.precision if is_reference else model.target}"

    def json(self) -> str:
        """Return every metric."""
        comparisons = [dataclasses.asdict(each) for each in self.comparisons]
        return json.dumps({"comparisons": comparisons, **page.setup_fields(_PACKAGES)}, indent=2)

    def write(self, folder: Path) -> None:
        """Write the page, the values and the plot."""
        page.write(self, folder, "smollm2")
        shutil.copyfile(self.plot, folder / "smollm2.png")


def overrides(weights: Path, target: str) -> list[str]:
    """Return the overrides of the workflow on the model at a target."""
    return [
        *("model=local", f"model.path={weights}", "model.name=smollm2_135m"),
        f"target={target}",
    ]


def measure(weights: Path, targets: Sequence[str]) -> Report:
    """Run the workflow for each target. Raises UserError if a run fails."""
    comparisons = [_run(overrides(weights, target)) for target in targets]
    uri = f"runs:/{comparisons[-1].run_id}/{_PNG}"
    return Report(comparisons, Path(mlflow.artifacts.download_artifacts(uri)))


def _run(arguments: Sequence[str]) -> Comparison:
    command = [sys.executable, "-m", "steps.main", *arguments]
    check_exit(command, subprocess.call(command, env=logged_models.environment()))
    return Comparison.from_result(logged_models.find_logged(Evaluation, arguments)[0])


def main() -> None:
    """Run the workflow from the command line."""
    parser = create_parser(__doc__)
    choices = config_keys.groups()["target"]
    parser.add_argument("--targets", nargs="+", choices=choices, default=list(TARGETS))
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    arguments = parse_with_store(parser)
    output = arguments.output.absolute()
    with logged_models.use_tracking_folder(store.home() / "real_workflow"):
        measure(stored_models.smollm2(), arguments.targets).write(output)


if __name__ == "__main__":
    run_main(main)
