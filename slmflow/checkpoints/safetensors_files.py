"""The format of safetensors files, for files that are rewritten one tensor after another.

A file has the length of its header, the header with the place of each tensor, and the tensors.
"""

import json
import os
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

METADATA = "__metadata__"

_LENGTH = struct.Struct("<Q")  # of the header
_ALIGNMENT = 8
_CHUNK_BYTES = 16 * 2**20


def read_header(reader: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of a file that `safetensors` has opened before, and where data begins."""
    (length,) = _LENGTH.unpack(reader.read(_LENGTH.size))
    return json.loads(reader.read(length)), _LENGTH.size + length


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return the first bytes of a file: the length, and the header, padded to align the tensors."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text


def copy_range(reader: BinaryIO, writer: BinaryIO, start: int, size: int) -> None:
    """Copy bytes of a file. Raises OSError if it has fewer."""
    reader.seek(start)
    while size:
        chunk = reader.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise OSError(f"{os.fspath(reader.name)} ends too early")
        writer.write(chunk)
        size -= len(chunk)
