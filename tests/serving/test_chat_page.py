"""The chat page, and pages of other origins, in a real browser.

Needs a Chromium on the PATH (`apt-get install chromium`).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from slmflow.pipeline.results import GenaiModel, LoggedModel
from tests.fixtures.base_model import BaseReference
from tests.fixtures.bundled_model import Reference
from tests.fixtures.server import serving_in_thread
from tests.fixtures.waiting import wait_until
from tests.serving.calls import call, metric
from tests.serving.conftest import KEY, Server, serving

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH"
)

ARGUMENTS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
ASKED = "What is the capital of Japan?"
FETCH = """async ([url, type]) => {
    const body = JSON.stringify({messages: [{role: "user", content: "Hi"}], max_tokens: 2});
    const headers = {"Content-Type": type, Authorization: "Bearer sesame"};
    if (type === "text/plain") delete headers.Authorization;
    try {
        const response = await fetch(url + "/v1/chat/completions", {method: "POST", headers, body});
        return [response.status, (await response.json()).object];
    } catch (error) {
        return String(error);
    }
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def watch(page: Page, server: Server) -> list[str]:
    """Return what the browser reports: errors, and requests to anything but the server."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    own = (server.url, "data:")
    page.on("request", lambda sent: None if sent.url.startswith(own) else problems.append(sent.url))
    return problems


def open_page(page: Page, server: Server) -> list[str]:
    problems = watch(page, server)
    page.goto(server.url)
    expect(page.locator("#model")).not_to_have_text("slmflow")
    return problems


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def answers(page: Page) -> Any:
    return page.locator("article.assistant > .text")


def test_answer_streams_with_its_figures(
    page: Page, keyless_server: Server, reference: Reference
) -> None:
    problems = open_page(page, keyless_server)
    expect(page.locator("#model")).to_have_text("tiny_phi3")

    ask(page, ASKED)

    ids = reference.generate([{"role": "user", "content": ASKED}], 48)
    expect(answers(page)).to_have_text(reference.text(ids))
    expect(page.locator(".figures")).to_contain_text(f"{len(ids)} tokens")
    expect(page.locator(".figures")).to_contain_text("tokens/s")
    expect(page.locator(".figures")).to_contain_text("first after")
    expect(page.get_by_role("status")).to_contain_text(reference.text(ids))
    assert problems == []


def test_conversation_is_sent_and_survives_a_reload(
    page: Page, keyless_server: Server, reference: Reference
) -> None:
    problems = open_page(page, keyless_server)
    turns = [{"role": "user", "content": ASKED}]
    ask(page, ASKED)
    turns.append({"role": "assistant", "content": reference.text(reference.generate(turns, 48))})
    expect(answers(page)).to_have_text(turns[1]["content"])
    page.reload()
    expect(answers(page)).to_have_text(turns[1]["content"])

    ask(page, "And of Peru?")

    turns.append({"role": "user", "content": "And of Peru?"})
    expected = reference.text(reference.generate(turns, 48))
    expect(answers(page).last).to_have_text(expected.strip())
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    page.reload()
    expect(page.get_by_text("Try the model")).to_be_visible()
    assert problems == []


def test_settings_take_effect(page: Page, keyless_server: Server) -> None:
    problems = open_page(page, keyless_server)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request.post_data_json))
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Max tokens").fill("3")
    page.keyboard.press("Escape")

    ask(page, ASKED)

    expect(page.locator(".figures")).to_contain_text("3 tokens")
    expect(page.locator(".figures")).to_contain_text("cut at the length limit")
    assert sent[-1]["temperature"] == 0.5
    assert sent[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert problems == []


def test_stop_button_frees_the_model(page: Page, keyless_server: Server) -> None:
    problems = open_page(page, keyless_server)
    cancelled = metric(keyless_server, "slmflow_requests_cancelled_total")
    with keyless_server.paused():
        ask(page, ASKED)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".figures")).to_have_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    name = "slmflow_requests_cancelled_total"
    wait_until(lambda: metric(keyless_server, name) == cancelled + 1)
    assert problems == []


def test_page_asks_for_the_key(page: Page, server: Server) -> None:
    assert call(server, "GET", "/", Authorization="")[0] == 200
    page.goto(server.url)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("API key").fill("wrong")
    dialog.get_by_role("button", name="Continue").click()
    expect(dialog).to_contain_text("not the server's")
    dialog.get_by_label("API key").fill(KEY)
    dialog.get_by_role("button", name="Continue").click()
    expect(page.locator("#model")).to_have_text("tiny_phi3")
    ask(page, ASKED)
    expect(answers(page)).to_contain_text("Tokyo")
    page.reload()
    expect(page.locator("#model")).to_have_text("tiny_phi3")
    expect(dialog).not_to_be_visible()


def test_markup_is_shown_as_text(page: Page, keyless_server: Server) -> None:
    problems = open_page(page, keyless_server)
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            content_type="text/event-stream",
            body=f'data: {{"choices": [{{"delta": {{"content": "{markup}", '
            f'"reasoning_content": "{markup}"}}}}]}}\n\ndata: [DONE]\n\n',
        ),
    )
    ask(page, markup)
    expect(answers(page)).to_have_text(markup)
    expect(page.locator("article.user > .text")).to_have_text(markup)
    page.get_by_text("Reasoning").click()
    expect(page.locator("details .text")).to_have_text(markup)
    assert page.locator("article img, article b").count() == 0
    assert problems == []


def test_policy_forbids_foreign_code(page: Page, keyless_server: Server) -> None:
    open_page(page, keyless_server)
    policy = call(keyless_server, "GET", "/")[1]["Content-Security-Policy"]
    assert "unsafe" not in policy
    page.evaluate(
        "() => { const s = document.createElement('script');"
        "s.textContent = 'window.ran = true'; document.body.append(s); }"
    )
    assert page.evaluate("() => window.ran") is None


def test_rejected_message_shows_why_and_is_dropped(page: Page, keyless_server: Server) -> None:
    open_page(page, keyless_server)
    ask(page, "x " * 900)
    expect(page.locator(".fault")).to_contain_text("context holds 512")
    ask(page, ASKED)
    expect(answers(page)).to_contain_text("Tokyo")
    expect(page.locator("article.user")).to_have_count(1)


def test_failed_request_can_be_tried_again(page: Page, keyless_server: Server) -> None:
    open_page(page, keyless_server)
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, ASKED)
    expect(page.locator(".fault")).to_be_visible()
    page.unroute("**/v1/chat/completions")
    page.get_by_role("button", name="Try again").click()
    expect(answers(page)).to_contain_text("Tokyo")
    expect(page.locator(".fault")).to_have_count(0)
    expect(page.locator("article.user")).to_have_count(1)


def test_new_chat_ends_the_answer_in_progress(page: Page, keyless_server: Server) -> None:
    problems = open_page(page, keyless_server)
    with keyless_server.paused():
        ask(page, ASKED)
        page.get_by_role("button", name="New chat").click()
    expect(page.locator("article")).to_have_count(0)
    ask(page, "What is the capital of Peru?")
    expect(answers(page)).to_contain_text("Lima")
    assert page.evaluate("() => JSON.parse(sessionStorage.messages).length") == 2
    assert problems == []


def test_base_model_continues_text(
    page: Page, base_genai: LoggedModel, base_reference: BaseReference, tmp_path: Path
) -> None:
    uri = f"serve.model_uri={base_genai.model_uri}"
    with serving(tmp_path, uri, SLMFLOW_API_KEY="") as server:
        problems = open_page(page, server)
        expect(page.locator("#hint")).to_contain_text("continues the text")
        prompt = "Question: What is the capital of France?\nAnswer:"
        ask(page, prompt)
        expect(answers(page)).to_have_text(base_reference.continue_text(prompt))
        assert problems == []


@contextmanager
def other_page() -> Iterator[str]:
    """Serve an empty page of another origin, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title>")

        def log_message(self, *_: Any) -> None:
            pass

    with serving_in_thread(Handler) as url:
        yield url


def test_page_of_another_origin_cannot_use_the_server(page: Page, keyless_server: Server) -> None:
    before = metric(keyless_server, "slmflow_completion_tokens_total")
    with other_page() as origin:
        page.goto(origin)
        for content_type in ("application/json", "text/plain"):
            assert "Failed to fetch" in page.evaluate(FETCH, [keyless_server.url, content_type])
    assert metric(keyless_server, "slmflow_completion_tokens_total") == before


def test_allowed_page_gets_answers(page: Page, chat: GenaiModel, tmp_path: Path) -> None:
    with other_page() as origin:
        settings = (f"serve.model_uri={chat.model_uri}", f"serve.origins=[{origin}]")
        with serving(tmp_path, *settings) as server:
            page.goto(origin)
            answered = page.evaluate(FETCH, [server.url, "application/json"])
            assert answered == [200, "chat.completion"]
            assert page.evaluate(FETCH, [server.url, "text/plain"])[0] == 401
