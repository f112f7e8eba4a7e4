"""The report in a real browser, framed as MLflow's artifact viewer frames it.

Runs where a Chromium is on the PATH (`apt-get install chromium`).
"""

import dataclasses
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Frame, Page, expect, sync_playwright

from slmflow.metrics.row_comparison import RowComparison
from slmflow.reports import html_report as pages
from slmflow.reports.content import ReportContent
from tests.metrics.samples import FINDINGS, FINDINGS_ALONE, HOSTILE, TABLE

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH"
)

# As MLflow: a frame of a blob, which may run scripts but has no origin.
VIEWER = """
<body style="margin: 0">
<iframe sandbox="allow-scripts" style="border: 0; width: 100%; height: 99vh"></iframe>
</body>
"""
SHOW = """html => {
    const blob = new Blob([html], {type: "text/html"});
    document.querySelector("iframe").src = URL.createObjectURL(blob);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM)
        yield launched
        launched.close()


@dataclasses.dataclass(frozen=True)
class Shown:
    """A report in its frame, and what the browser complained of."""

    page: Page
    frame: Frame
    complaints: list[str]

    @property
    def overflow(self) -> int:
        """By how many pixels the report is wider than its frame."""
        return int(self.frame.evaluate("document.documentElement.scrollWidth - innerWidth"))


def show(browser: Browser, findings: ReportContent, width: int) -> Shown:
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on(
        "request", lambda request: complaints.append(request.url) if _outside(request.url) else None
    )
    page.set_content(VIEWER)
    page.evaluate(SHOW, pages.html(findings))
    expect(page.frame_locator("iframe").locator("h1")).to_be_visible()
    frame = page.frames[1]
    frame.wait_for_load_state()
    return Shown(page, frame, complaints)


def _outside(url: str) -> bool:
    return not url.startswith(("data:", "blob:", "about:"))


@pytest.mark.parametrize("width", [500, 1000])
def test_report_is_shown_whole(browser: Browser, width: int) -> None:
    shown = show(browser, FINDINGS, width)
    frame = shown.frame
    expect(frame.locator(".verdict")).to_have_text(FINDINGS.comparison.verdict)
    assert frame.locator("table").first.locator("tbody tr").count() == len(
        FINDINGS.comparison.names
    )
    expect(frame.get_by_role("row", name="token_f1")).to_contain_text("99.1%")
    widths = frame.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert len(widths) == 9
    assert min(widths) > 0
    assert shown.overflow <= 0
    assert shown.complaints == []


def test_hostile_texts_do_nothing(browser: Browser) -> None:
    shown = show(browser, FINDINGS, 500)
    said = shown.frame.locator("article dd", has_text="<script>")
    assert " ".join(said.first.inner_text().split()) == " ".join(HOSTILE.split())
    assert shown.page.evaluate("window.x") is None
    assert shown.frame.title() == FINDINGS.comparison.title
    assert shown.frame.locator("img[src=x]").count() == 0
    assert shown.complaints == []


def test_nothing_is_too_wide_for_a_narrow_frame(browser: Browser) -> None:
    long = "w" * 400
    table = TABLE.assign(question=long, reference=long, prediction="x" + long)
    genai = dataclasses.replace(FINDINGS.comparison.compared, flavor=long, model_uri=long)
    figures = (FINDINGS.comparison.figures[0], genai)
    comparison = dataclasses.replace(FINDINGS.comparison, figures=figures, model=long)
    origin = dataclasses.replace(FINDINGS.origin, machine={long: long}, runs={long: long})
    assert show(browser, ReportContent(comparison, RowComparison.of(table), origin), 500).overflow <= 0


def test_a_model_alone_is_shown(browser: Browser) -> None:
    shown = show(browser, FINDINGS_ALONE, 500)
    expect(shown.frame.locator("h1")).to_have_text("models:/chat$/1")
    assert shown.overflow <= 0
    assert shown.complaints == []


def test_the_other_regressions_unfold(browser: Browser) -> None:
    assert FINDINGS.rows is not None
    many = dataclasses.replace(FINDINGS.rows, regressions=FINDINGS.rows.regressions * 4)
    frame = show(browser, dataclasses.replace(FINDINGS, rows=many), 1000).frame
    sixth = frame.locator("article").nth(5)
    expect(sixth).to_be_hidden()
    frame.locator("summary").click()
    expect(sixth).to_be_visible()
