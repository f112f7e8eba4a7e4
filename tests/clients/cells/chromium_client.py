"""Chromium: pages of an allowed and of another origin, which fetch from the server.

It runs in the project's environment, which has playwright.
"""

import functools
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from cells import QUESTION, Server, cell, check_answer, main
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Reads the body as it arrives, and returns the pieces.
FETCH = """async ([url, key, body]) => {
    const response = await fetch(url, {
        method: "POST",
        headers: {"Content-Type": "application/json", Authorization: `Bearer ${key}`},
        body: JSON.stringify(body),
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const pieces = [];
    for (let part = await reader.read(); !part.done; part = await reader.read())
        pieces.push(part.value);
    return {status: response.status, pieces};
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _page(origin: str) -> Iterator[Page]:
    """Open an empty page of an origin, which must be one of this machine."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        parts = urlsplit(origin)
        address = (str(parts.hostname), int(parts.port or 80))
        handler = functools.partial(_Quiet, directory=folder)
        site = stack.enter_context(ThreadingHTTPServer(address, handler))
        threading.Thread(target=site.serve_forever, daemon=True).start()
        stack.callback(site.shutdown)
        playwright = stack.enter_context(sync_playwright())
        path = next(filter(None, map(shutil.which, NAMES)))
        browser = playwright.chromium.launch(executable_path=path)
        stack.callback(browser.close)
        page = browser.new_page()
        page.goto(origin)
        yield page


def fetch(server: Server, origin: str, **options: Any) -> list[str]:
    body = {"model": server.model, "messages": [{"role": "user", "content": QUESTION}], **options}
    with _page(origin) as page:
        response = page.evaluate(FETCH, [f"{server.api}/chat/completions", server.key, body])
    assert response["status"] == 200, response
    pieces: list[str] = response["pieces"]
    return pieces


@cell("chat")
def chat(server: Server) -> None:
    check_answer("".join(fetch(server, server.origins[0])))


@cell("stream")
def stream(server: Server) -> None:
    pieces = fetch(server, server.origins[0], stream=True)
    assert len(pieces) > 1 and "data: [DONE]" in pieces[-1]


@cell("other origin", refused="Failed to fetch")
def other_origin(server: Server) -> None:
    fetch(server, server.origins[1])


main()
