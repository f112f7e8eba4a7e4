"""A small Hugging Face hub on loopback: as much of its HTTP as the real client asks for.

Small files are sent by `/resolve/`, large ones by a redirect to `/cdn/` under another host name,
as the hub does it. The attributes of `Hub` are the switches of the tests.
"""

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "someone/small-model"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_aTokenNobodyMayRead"  # noqa: S105

_INFO = re.compile(
    r"/api/(models|datasets)/(?P<id>[^/]+/[^/]+)/revision/(?P<revision>[^/?]+)(\?.*)?"
)
FILE = re.compile(r"/(datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
CDN = re.compile(r"/cdn/(?P<name>.+)")


class Hub(ThreadingHTTPServer):
    """One model, which is a dataset too, at one commit."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.sent_instead: dict[str, bytes] = {}  # content that is not what the listing says
        self.listed_sizes: dict[str, int] = {}  # sizes that are not what is sent
        self.cut_after: dict[str, int] = {}  # bytes of a file after which the line goes dead
        self.gated = False
        self.readers: set[str] = set()  # tokens whose account was granted access
        self.accounts: set[str] | None = None  # tokens that are valid at all; None: every one
        self.status: int | None = None  # answers everything with this
        self.next: list[int] = []  # answers the next requests with these; 0: resets the line
        self.stalls: set[str] = set()  # files of which the line goes silent once, half-way
        self.circles: re.Pattern[str] | None = None  # paths that are redirected to themselves
        self.etags: dict[str, str] = {}  # ETags that are not the file's
        self.closing = threading.Event()
        self.commit = REVISION
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.cdn_saw_token = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges(self, name: str) -> list[str | None]:
        """Return the Range header of each time the weights in `name` were asked for."""
        return [
            range_
            for method, path, range_ in self.requests
            if (method, path) == ("GET", _cdn(name))
        ]

    def downloaded(self) -> set[str]:
        """Return the names of the files that were asked for."""
        matches = (FILE.fullmatch(path) for _, path, _ in self.requests)
        return {match["name"] for match in matches if match}


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve a hub while the block runs."""
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def _token(self) -> str | None:
        header = self.headers.get("Authorization")
        return header.removeprefix("Bearer ") if header else None

    def _answer(self) -> None:
        hub = self.server
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if hub.next and (status := hub.next.pop(0)) != 200:
            self._refuse(status) if status else self._reset()
        elif hub.status:
            self._refuse(hub.status)
        elif hub.circles and hub.circles.fullmatch(self.path):
            self._send(302, b"", {"Location": self.path})
        elif match := CDN.fullmatch(self.path):
            hub.cdn_saw_token |= self._token is not None
            self._send_bytes(match["name"], {})
        elif self._token and hub.accounts is not None and self._token not in hub.accounts:
            self._refuse(401, message="Invalid credentials in Authorization header")
        elif match := _INFO.fullmatch(self.path) or FILE.fullmatch(self.path):
            self._answer_about(match.groupdict())
        else:
            self._refuse(404)

    def _answer_about(self, asked: dict[str, str]) -> None:
        hub = self.server
        if asked["id"] != MODEL:
            # What is private and what is not there look alike to who may not read it.
            self._refuse(404 if self._token else 401, "RepoNotFound")
        elif asked["revision"] != REVISION:
            self._refuse(404, "RevisionNotFound")
        elif "name" not in asked:
            self._send(200, json.dumps(self._info()).encode())
        elif hub.gated and self._token not in hub.readers:
            self._refuse(403 if self._token else 401, "GatedRepo")
        elif asked["name"] not in hub.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(asked["name"])

    def _info(self) -> dict[str, Any]:
        hub = self.server
        return {
            "id": MODEL,
            "sha": hub.commit,
            "siblings": [self._sibling(name, content) for name, content in hub.files.items()],
        }

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        size = self.server.listed_sizes.get(name, len(content))
        sibling: dict[str, Any] = {"rfilename": name, "size": size, "blobId": _git_id(content)}
        if _is_large(name):
            sibling["lfs"] = {"size": size, "sha256": _sha256(content), "pointerSize": 134}
        return sibling

    def _send_file(self, name: str) -> None:
        content = self.server.files[name]
        etag = self.server.etags.get(
            name, _sha256(content) if _is_large(name) else _git_id(content)
        )
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{etag}"'}
        if not _is_large(name):
            self._send_bytes(name, headers)
            return
        headers |= {
            "Location": f"http://localhost:{self.server.server_port}{_cdn(name)}",
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(content)),
        }
        self._send(302, b"", headers)

    def _send_bytes(self, name: str, headers: dict[str, str]) -> None:
        hub = self.server
        content = hub.sent_instead.get(name, hub.files[name])
        headers["Content-Disposition"] = f'inline; filename="{name}";'
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        if start and start >= len(content):
            self._refuse(416)
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and name in hub.stalls:
            hub.stalls.remove(name)
            self._stall(content, headers)
        else:
            cut_after = hub.cut_after.pop(name, None)
            self._send(206 if start else 200, content[start:], headers, cut_after)

    def _stall(self, content: bytes, headers: dict[str, str]) -> None:
        """Send the first half, and then nothing while the hub is there."""
        self._send(200, content, headers, len(content) // 2)
        self.wfile.flush()
        self.server.closing.wait()

    def _reset(self) -> None:
        """End the connection as a router does that has lost it: without an answer."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        if status in (429, 503):
            headers["Retry-After"] = "1"
        self._send(status, b"", headers)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut_after: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut_after])
            self.close_connection = cut_after is not None


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".parquet"))


def _cdn(name: str) -> str:
    return f"/cdn/{name}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324
