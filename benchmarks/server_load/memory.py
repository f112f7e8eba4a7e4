"""The peak memory of a server's processes, sampled in a thread."""

import threading
from types import TracebackType
from typing import Self

from benchmarks.harness.process_tree import SAMPLE_S
from benchmarks.server_load.server import RunningServer


class PeakMemory:
    """The largest resident memory of a server, sampled while the block runs."""

    def __init__(self, server: RunningServer) -> None:
        """Watch a running server."""
        self.bytes = server.rss_bytes()
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Start to sample."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.bytes = max(self.bytes, self._server.rss_bytes())
