"""Hardware and software of this machine, for the record of a measurement."""

import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import onnxruntime
import psutil


def description() -> str:
    """Return processor, number of cores and memory in 10^9 bytes, on one line."""
    return f"{_cores()} cores of {_processor()}, {_memory_gb():.0f} GB"


def facts(packages: Iterable[str]) -> dict[str, str]:
    """Return the hardware, the system and the versions of these packages, by name."""
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
    match = cpuinfo.exists() and re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
    return match[1].strip() if match else platform.processor() or platform.machine()
