"""Convert real checkpoints, log them, and compare their answers with transformers'.

python -m benchmarks.real_models smollm2/hf gemma3/hf --output docs/real_models
python -m benchmarks.real_models smollm2/hf --targets cpu_int4 --output trial

Each folder goes through fetch, convert and log_genai for each target. The logged model then answers
prompts greedily, and so does transformers with the same weights in fp32. Writes models.md and
models.json. A checkpoint that is rejected is listed with the message.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from benchmarks.harness.command_line import at_least, create_parser, parse_with_store, run_main
from benchmarks.models import logged_models
from benchmarks.reports import page
from slmflow.checkpoints import tokenizer_files
from slmflow.config import config_keys
from slmflow.console import messages, progress_bars
from slmflow.conversion.record import ConversionRecord
from slmflow.errors import UserError
from slmflow.flavors import chat_interfaces
from slmflow.pipeline import store
from slmflow.pipeline.results import OnnxModel, Weights
from slmflow.reports import markdown

TARGETS = ("cpu_fp32", "cpu_int8", "cpu_balanced", "cpu_int4", "cpu_int4_rtn")
PACKAGES = ("transformers", "tokenizers", "onnxruntime-genai", "torch")
PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colors.",
    "Translate to German: Good morning!",
    "What is 12 plus 30?",
    "Why is the sky blue?",
    "Name a famous scientist and what she discovered.",
    "Complete: The quick brown fox",
)


@dataclass(frozen=True)
class Outcome:
    """What came of one checkpoint at one target.

    error: why there is no model, empty if there is one; equal: answers that are those of
    transformers, of `prompts`; the others are statistics of the conversion, see `ConversionRecord`.
    """

    model: str
    target: str
    error: str = ""
    size_mb: float = 0.0
    top1_agreement: float = 0.0
    exact_max_abs_diff: float | None = None
    equal: int = 0
    prompts: int = 0
    examples: tuple[tuple[str, str], ...] = ()

    def row(self) -> list[str]:
        """Return a row of the table."""
        if self.error:
            return [self.model, self.target, *["-"] * 3, self.error]
        return [
            self.model,
            self.target,
            f"{self.size_mb:,.1f}",
            f"{self.top1_agreement:.1%}",
            "-" if self.exact_max_abs_diff is None else f"{self.exact_max_abs_diff:.1e}",
            f"{self.equal} of {self.prompts} answers equal",
        ]


@dataclass(frozen=True)
class Report:
    """All outcomes."""

    outcomes: Sequence[Outcome]
    new_tokens: int

    def markdown(self) -> str:
        """Return the table with notes."""
        header = ["model", "target", "MB", "top-1", "proof", "answers"]
        table = markdown.table(header, [outcome.row() for outcome in self.outcomes])
        notes = [
            page.setup_note(PACKAGES),
            "MB: graph and weights; top-1: next tokens of the "
            "probes that agree with the original; proof: largest difference of any logit before "
            "rounding",
            f"answers: greedy, {self.new_tokens} tokens at most, the logged model against "
            "transformers in fp32",
        ]
        return page.render("Real checkpoints", table, notes)

    def json(self) -> str:
        """Return every value, with an answer of each model and of transformers."""
        outcomes = [dataclasses.asdict(outcome) for outcome in self.outcomes]
        return json.dumps({"outcomes": outcomes, **page.setup_fields(PACKAGES)}, indent=2)


def measure(folders: Sequence[Path], targets: Sequence[str], new_tokens: int) -> Report:
    """Convert each folder for each target and compare the answers."""
    outcomes = []
    for folder in folders:
        expected: list[str] = []
        for target in targets:
            overrides = [
                *("model=local", f"model.path={folder}", f"target={target}"),
                *("generation=greedy", f"generation.max_new_tokens={new_tokens}"),
            ]
            name = f"{folder.parent.name}/{folder.name}"
            outcomes.append(_try(name, target, overrides, new_tokens, expected))
            messages.info(" ".join(outcomes[-1].row()))
    return Report(outcomes, new_tokens)


def _try(
    name: str, target: str, overrides: Sequence[str], new_tokens: int, expected: list[str]
) -> Outcome:
    """Convert one checkpoint; expected: transformers' answers, filled for the first target."""
    try:
        logged = logged_models.ensure_logged(overrides)
    except UserError as error:
        return Outcome(name, target, error=str(error))
    weights, _ = logged_models.find_logged(Weights, overrides)
    onnx, _ = logged_models.find_logged(OnnxModel, overrides)
    if not expected:
        expected += _reference_answers(weights.folder, new_tokens)
    answers = list(_answers(logged.model_uri))
    record = ConversionRecord.read(onnx.folder)
    return Outcome(
        model=name,
        target=target,
        size_mb=record.onnx_size_mb,
        top1_agreement=record.parity.top1_agreement,
        exact_max_abs_diff=record.exact_max_abs_diff,
        equal=sum(a == e for a, e in zip(answers, expected, strict=True)),
        prompts=len(expected),
        examples=tuple(zip(answers, expected, strict=True)),
    )


def _answers(model_uri: str) -> Iterator[str]:
    """Yield the logged model's answer to each prompt, its reasoning included."""
    model = mlflow.pyfunc.load_model(model_uri)
    for prompt in PROMPTS:
        completion = chat_interfaces.request_completion(model, _conversation(prompt))
        yield (completion.reasoning + completion.text).strip()


def _reference_answers(folder: Path, new_tokens: int) -> list[str]:
    """Return the answers of transformers' `generate` on a checkpoint in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = tokenizer_files.load(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    with progress_bars.item_bar() as progress:
        for prompt in progress.track(PROMPTS, description="transformers answers"):
            ids = torch.tensor([_prompt_ids(loaded, prompt)])
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=new_tokens,
            )
            generated = output[0, ids.shape[1] :]
            answers.append(loaded.decode(generated, skip_special_tokens=True).strip())
    return answers


def _prompt_ids(loaded: Any, prompt: str) -> list[int]:
    if loaded.chat_template is None:
        ids: list[int] = loaded(prompt)["input_ids"]
        return ids
    rendered: list[int] = loaded.apply_chat_template(
        _conversation(prompt), add_generation_prompt=True, return_dict=False
    )
    return rendered


def _conversation(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def main() -> None:
    """Run the comparison from the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="checkpoints")
    choices = config_keys.groups()["target"]
    parser.add_argument("--targets", nargs="+", choices=choices, default=list(TARGETS))
    parser.add_argument("--new-tokens", type=at_least(1), default=32)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    arguments = parse_with_store(parser)
    folders = [folder.absolute() for folder in arguments.folders]
    output = arguments.output.absolute()
    with logged_models.use_tracking_folder(store.home() / "real_models"):
        report = measure(folders, arguments.targets, arguments.new_tokens)
    page.write(report, output, "models")


if __name__ == "__main__":
    run_main(main)
