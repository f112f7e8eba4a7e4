"""What a measurement was made on."""

import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import onnxruntime
import psutil


def description() -> str:
    """Return the processor, the number of cores and the memory in 10^9 bytes, on one line."""
    return f"{_cores()} cores of {_processor()}, {_memory_gb():.0f} GB"


def facts(packages: Iterable[str]) -> dict[str, str]:
    """Return the machine by what is told of it, in words, and the versions of these packages."""
    return {
        "cpu": _processor(),
        "cores": str(_cores()),
        "memory": f"{_memory_gb():.1f} GB",
        "system": platform.platform(terse=True),
        "providers": ", ".join(onnxruntime.get_available_providers()),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def _cores() -> int:
    return os.cpu_count() or 1


def _memory_gb() -> float:
    return float(psutil.virtual_memory().total) / 1e9


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.exists() and re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
    return found[1].strip() if found else platform.processor() or platform.machine()
