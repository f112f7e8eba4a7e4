"""Tasks of lm-evaluation-harness on both flavors, compared with the harness's own `hf` model."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.config import compose as configs
from slmflow.errors import BadArguments
from slmflow.measurement.harness import lm_eval_tasks
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement
from slmflow.pipeline.results import GenaiModel, TransformersModel

pytestmark = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="requirements-lm-eval.txt is not installed"
)

TASKS = Path(__file__).parent / "tasks"
NAMES = ("capital_choice", "capital_answer", "capital_text")
ROWS = 24


@dataclass(frozen=True)
class Measured:
    """The measurements of both flavors, and the harness's reports on them."""

    measurements: tuple[Measurement, ...]
    reports: tuple[dict[str, Any], ...]


def overrides(*names: str) -> list[str]:
    return [
        "evaluation=lm_eval",
        f"evaluation.tasks=[{','.join(names)}]",
        f"evaluation.task_folder='{TASKS}'",
    ]


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        patch.setenv("SLMFLOW_HOME", str(tmp_path_factory.mktemp("store")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def measure(models: list[MeasuredModel], experiment: str, names: tuple[str, ...]) -> Measured:
    config = configs.load(overrides(*names))
    with mlflow.start_run(experiment_id=experiment) as run:
        measurements = lm_eval_tasks.measure(config, models)
    reports = [
        mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/lm_eval/{model.flavor}.json")
        for model in models
    ]
    return Measured(measurements, tuple(reports))


@pytest.fixture(scope="module")
def measured(pipeline: TransformersModel, chat: GenaiModel, experiment: str) -> Measured:
    models = [MeasuredModel.from_logged(pipeline), MeasuredModel.from_logged(chat)]
    return measure(models, experiment, NAMES)


@pytest.fixture(scope="module")
def expected(weights: Path) -> dict[str, Any]:
    """The report of the harness on its own `hf` model of the same checkpoint."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    before = Path.cwd()
    os.chdir(TASKS)
    try:
        report = simple_evaluate(
            HFLM(str(weights), device="cpu", dtype="float32", batch_size=8),
            tasks=list(NAMES),
            task_manager=manager,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            bootstrap_iters=0,
        )
    finally:
        os.chdir(before)
    assert report is not None
    return dict(report)


def responses(report: dict[str, Any], task: str) -> list[Any]:
    return [sample["resps"] for sample in report["samples"][task] if sample["filter"] == "none"]


@pytest.mark.parametrize("flavor", [0, 1], ids=["transformers", "genai"])
@pytest.mark.parametrize("task", ["capital_choice", "capital_text"])
def test_likelihoods_are_those_of_the_harness(
    measured: Measured, expected: dict[str, Any], flavor: int, task: str
) -> None:
    ours, theirs = responses(measured.reports[flavor], task), responses(expected, task)
    assert len(ours) == len(theirs) == ROWS
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine) == len(other)
        for [one], [two] in zip(mine, other, strict=True):
            logprob, is_greedy = one if isinstance(one, list) else (one, None)
            expected_logprob, expected_greedy = two if isinstance(two, tuple) else (two, None)
            assert logprob == pytest.approx(expected_logprob, abs=1e-3)
            assert is_greedy == expected_greedy


@pytest.mark.parametrize("flavor", [0, 1], ids=["transformers", "genai"])
def test_generated_texts_are_those_of_the_harness(
    measured: Measured, expected: dict[str, Any], flavor: int
) -> None:
    ours = responses(measured.reports[flavor], "capital_answer")
    assert ours == responses(expected, "capital_answer")
    assert len({text for [[text]] in ours}) > ROWS / 2


@pytest.mark.parametrize("flavor", [0, 1], ids=["transformers", "genai"])
def test_metrics_are_those_of_the_harness(
    measured: Measured, expected: dict[str, Any], flavor: int
) -> None:
    tasks = measured.measurements[flavor].tasks
    assert tasks is not None and tasks.row_count == 3 * ROWS
    values = {metric.column.name: metric.value for metric in tasks.metrics}
    results = expected["results"]
    assert values == pytest.approx(
        {
            "capital_choice_acc": results["capital_choice"]["acc,none"],
            "capital_choice_acc_norm": results["capital_choice"]["acc_norm,none"],
            "capital_answer_exact_match": results["capital_answer"]["exact_match,none"],
            "capital_answer_exact_match_first_word": results["capital_answer"][
                "exact_match,first_word"
            ],
            "capital_text_word_perplexity": results["capital_text"]["word_perplexity,none"],
            "capital_text_bits_per_byte": results["capital_text"]["bits_per_byte,none"],
        },
        rel=1e-4,
    )
    assert values["capital_answer_exact_match"] > 0.5


def test_responses_are_kept_in_the_store(chat: GenaiModel, experiment: str) -> None:
    model = MeasuredModel.from_logged(chat, "a" * 64)
    first = measure([model], experiment, ("capitals",))
    [journal] = (Path(os.environ["SLMFLOW_HOME"]) / "lm_eval").iterdir()
    lines = journal.read_text().split()
    again = measure([model], experiment, ("capitals",))
    assert again.measurements == first.measurements
    assert journal.read_text().split() == lines


def test_group_pools_the_rows_of_its_tasks(chat: GenaiModel, experiment: str) -> None:
    measured = measure([MeasuredModel.from_logged(chat, "a" * 64)], experiment, ("capitals",))
    [measurement], [report] = measured.measurements, measured.reports
    assert measurement.tasks is not None
    [metric] = measurement.tasks.metrics
    assert metric.column.name == "capitals_acc"
    assert len(metric.rows) == 2 * ROWS
    assert metric.value == pytest.approx(sum(score for score, _ in metric.rows) / len(metric.rows))
    assert metric.value == report["groups"]["capitals"]["acc,none"]


def test_tasks_that_cannot_run_are_named_together() -> None:
    names = ("capital_choise", "capital_code", "capital_broken")
    with pytest.raises(BadArguments) as error:
        lm_eval_tasks.check(configs.load(overrides(*names)))
    unknown, unsafe, broken = str(error.value).splitlines()
    assert unknown.startswith("evaluation.tasks: 'capital_choise' is no task")
    assert "Did you mean capital_choice or " in unknown
    assert unsafe == (
        "evaluation.tasks: capital_code runs code that the model writes, which slmflow never does: "
        "choose another task"
    )
    assert broken.startswith("evaluation.tasks: capital_broken cannot be loaded: FileNotFoundError")


@pytest.mark.parametrize("flavor", ["transformers", "genai"])
def test_text_beyond_the_context_is_read_as_in_the_harness(
    flavor: str, pipeline: TransformersModel, chat: GenaiModel, weights: Path
) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from slmflow.measurement.harness import text_models
    from slmflow.measurement.harness.lm_eval_model import HarnessModel

    uri = (pipeline if flavor == "transformers" else chat).model_uri
    folder = mlflow.artifacts.download_artifacts(uri)
    model = text_models.load(mlflow.pyfunc.load_model(folder), Path(folder))
    ours = HarnessModel(model, None, None, lambda kind, done, total: None)
    theirs = HFLM(str(weights), device="cpu", dtype="float32", max_length=ours.max_length)
    text = "What is the capital of Peru? The capital of Peru is Lima. " * 60
    assert len(ours.tok_encode(text)) > model.context_length

    pair = Instance("loglikelihood", {}, (text, " The capital of Chile is Santiago."), 0)
    [(logprob, is_greedy)] = ours.loglikelihood([pair])
    [(expected, expected_greedy)] = theirs.loglikelihood([pair])
    assert (logprob, is_greedy) == (pytest.approx(expected, abs=1e-3), expected_greedy)
    rolling = Instance("loglikelihood_rolling", {}, (text,), 0)
    assert ours.loglikelihood_rolling([rolling]) == pytest.approx(
        theirs.loglikelihood_rolling([rolling]), abs=5e-3
    )
    prompt = Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 8}), 0)
    assert isinstance(ours.generate_until([prompt])[0], str)
