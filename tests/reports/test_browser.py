"""The HTML report in a real browser, in a frame like that of MLflow's artifact viewer.

Needs a Chromium on the PATH (`apt-get install chromium`).
"""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright

from slmflow.reports import html_report, verdict_sentence
from tests.metrics.samples import HOSTILE, REPORT

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH"
)

# As in MLflow: a frame of a blob, which may run scripts but has no origin.
VIEWER = """
<body style="margin: 0">
<iframe sandbox="allow-scripts" style="border: 0; width: 100%; height: 99vh"></iframe>
</body>
"""
SHOW = """html => {
    const blob = new Blob([html], {type: "text/html"});
    document.querySelector("iframe").src = URL.createObjectURL(blob);
}"""


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser.new_page()
        browser.close()


def show_report(page: Page) -> tuple[Frame, list[str]]:
    """Return the frame with the report, and the errors and external requests of the browser."""
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on("request", lambda request: problems.append(request.url))
    page.set_content(VIEWER)
    page.evaluate(SHOW, html_report.render(REPORT))
    expect(page.frame_locator("iframe").locator("h1")).to_be_visible()
    frame = page.frames[1]
    frame.wait_for_load_state()
    return frame, [each for each in problems if not each.startswith(("data:", "blob:", "about:"))]


def test_report_shows_every_metric_and_plot_safely(page: Page) -> None:
    frame, problems = show_report(page)
    comparison = REPORT.comparison
    expect(frame.locator(".verdict")).to_have_text(verdict_sentence.render(comparison))
    rows = frame.locator("table").first.locator("tbody tr")
    assert rows.count() == len(comparison.metric_names)
    expect(frame.get_by_role("row", name="token_f1")).to_contain_text("99.1%")
    widths = frame.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert len(widths) == 10
    assert min(widths) > 0

    answer = frame.locator("article dd", has_text="<script>").first
    assert " ".join(answer.inner_text().split()) == " ".join(HOSTILE.split())
    assert page.evaluate("window.x") is None
    assert frame.title() == REPORT.comparison.title
    assert frame.locator("img[src=x]").count() == 0
    assert problems == []
