"""MLflow's own pages in a real browser, on a real server: what they show of a run and a version.

Needs a Chromium on the PATH (`apt-get install chromium`).
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from playwright.sync_api import Page, expect, sync_playwright

from slmflow.config import compose
from slmflow.metrics import row_traces
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline.results import GenaiModel
from slmflow.registry import descriptions
from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server
from tests.serving.conftest import serving

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH"
    ),
]

_TIMEOUT_MS = 120_000
ROWS = pd.DataFrame(
    [
        {
            "question": "What is the capital of France?",
            "answer": "Paris",
            "prediction": "Lyon",
            "reference": "Paris",
            "prompt_tokens": 17,
            "completion_tokens": 2,
        }
    ]
)


@pytest.fixture(scope="module")
def model_folder(chat: GenaiModel) -> str:
    """The files of the bundled model, which the server of these tests does not have."""
    return str(mlflow.artifacts.download_artifacts(chat.model_uri))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    database, folder = f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "artifacts"
    command = f"mlflow server --backend-store-uri {database} --artifacts-destination {folder}"
    before = mlflow.get_tracking_uri()
    with run_server(Sandbox(tmp_path), f"{command} --host 127.0.0.1 --workers 1") as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        mlflow.set_tracking_uri(url)
        yield url
    mlflow.set_tracking_uri(before)


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        opened = browser.new_page(viewport={"width": 1800, "height": 1000})
        opened.set_default_timeout(_TIMEOUT_MS)
        yield opened
        browser.close()


def test_run_shows_rows_with_scores_and_tokens(server: str, page: Page) -> None:
    with mlflow.start_run() as run:
        row_traces.log(run.info.run_id, None, ROWS)

    page.goto(f"{server}/#/experiments/0/runs/{run.info.run_id}/evaluations")

    expect(page.get_by_text("What is the capital of France?")).to_be_visible(timeout=_TIMEOUT_MS)
    expect(page.get_by_text("Lyon").first).to_be_visible()
    for heading in ("agreement", "exact_match", "Tokens"):
        expect(page.get_by_text(heading, exact=True).first).to_be_attached()
    [trace] = MlflowClient().search_traces(["0"])
    assert trace.info.token_usage["total_tokens"] == 19


def test_served_requests_show_their_tokens(
    model_folder: str, server: str, page: Page, tmp_path: Path
) -> None:
    tokens = {}
    settings = (f"serve.model_uri={model_folder}", "serve.tracing=content")
    with serving(tmp_path / "served", *settings) as served:
        for country in ("France", "Japan"):
            question = f"What is the capital of {country}?"
            [model] = served.client().models.list()
            completion = served.client().chat.completions.create(
                model=model.id, messages=[{"role": "user", "content": question}]
            )
            assert completion.usage
            tokens[question] = completion.usage.total_tokens

    page.goto(f"{server}/#/experiments/0/traces")

    expect(page.get_by_text("Tokens", exact=True).first).to_be_attached(timeout=_TIMEOUT_MS)
    for question, total in tokens.items():
        # Hidden for as long as a hint of the page is open.
        row = page.get_by_role("row", include_hidden=True).filter(has_text=question).last
        expect(row).to_contain_text("The capital of", timeout=_TIMEOUT_MS)
        expect(row.get_by_text(str(total), exact=True)).to_be_attached()


def test_registered_model_shows_no_markup(server: str, page: Page) -> None:
    config, client = compose.load([]), MlflowClient()
    name = config.registry.name
    model = ModelMetrics(
        flavor="genai",
        target="cpu_int4",
        exporter="optimum",
        model_uri="models:/m-1",
        n=2,
        exact_match=0.5,
    )
    text = descriptions.of_version(
        Comparison("run", "tiny_phi3", (model,)), model, "# tiny\\_phi3\n\n**A report**\n"
    )
    with mlflow.start_run() as run:
        mlflow.log_text("weights", "model/file.txt")
    client.create_registered_model(name)
    source = f"{run.info.artifact_uri}/model"
    client.create_model_version(name, source, run.info.run_id, description=text)
    descriptions.describe_model(config)

    page.goto(f"{server}/#/models/{name}")

    cell = page.get_by_text("tiny_phi3 on cpu_int4").first
    expect(cell).to_be_visible(timeout=_TIMEOUT_MS)
    expect(page.get_by_text("Versions of tiny_phi3 that slmflow converted")).to_be_visible()
    shown = page.locator("body").inner_text()
    assert "\\_" not in shown
    assert "#" not in cell.inner_text()
