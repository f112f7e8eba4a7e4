"""Transfer one file of a repository, from where an earlier transfer stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from huggingface_hub import constants, get_session, hf_raise_for_status

# An interruption loses the current chunk.
_CHUNK_BYTES = 256 * 1024

# Stalls in a row without one new chunk after which a transfer ends.
_MAX_STALLS = 5


class InterruptedTransfer(Exception):
    """The connection broke during a transfer; what was received stays."""


class _StalledTransfer(Exception):
    """Nothing was received for HF_HUB_DOWNLOAD_TIMEOUT seconds."""


def transfer(
    url: str, headers: Mapping[str, str], path: Path, size: int, report: Callable[[], None]
) -> None:
    """Append to `path` what it lacks of the file at `url`.

    A transfer that stalls is resumed. The caller compares the result with the listing: a server
    can send fewer bytes than `size`, and is stopped when it sends more.

    size: listed size in bytes; report: called after each chunk. Raises
    InterruptedTransfer, httpx.HTTPError and OSError.
    """
    stalls = 0
    while True:
        before = path.stat().st_size if path.exists() else 0
        try:
            return _append(url, headers, path, size, report)
        except _StalledTransfer as error:
            stalls = stalls + 1 if path.stat().st_size == before else 1
            if stalls > _MAX_STALLS:
                raise InterruptedTransfer from error


def _append(
    url: str, headers: Mapping[str, str], path: Path, size: int, report: Callable[[], None]
) -> None:
    with path.open("ab") as file:
        if file.tell() == size:
            return
        # Only positions in a file that is not compressed can be resumed from.
        headers = {**headers, "Accept-Encoding": "identity"}
        if file.tell():
            headers["Range"] = f"bytes={file.tell()}-"
        with get_session().stream(
            "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the file ends here
            hf_raise_for_status(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                file.truncate(0)
            try:
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
                    report()
                    if file.tell() > size:
                        return
            except httpx.ReadTimeout as error:
                raise _StalledTransfer from error
            except (httpx.ReadError, httpx.RemoteProtocolError) as error:
                raise InterruptedTransfer from error
            except httpx.DecodingError:
                return  # compressed after all, and from the middle
