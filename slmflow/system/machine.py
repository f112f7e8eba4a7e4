"""Hardware and software of this machine, for the record of a measurement and the key of timings."""

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil

from slmflow.system import container_limits

_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def description() -> str:
    """Return processor, number of cores and memory in 10^9 bytes, on one line."""
    return f"{_cores()} cores of {_processor()}, {_memory_gb():.0f} GB"


@functools.cache
def identity() -> Mapping[str, str]:
    """Return what the speed of this machine depends on, by name: hardware and Python.

    Limits of a container count as the machine's; the host's name and the kernel do not count. The
    versions of packages are not included.
    """
    hardware = {
        "cpu": _processor(),
        "cores": _cores(),
        "memory": f"{_memory_gb():.1f} GB",
        "python": platform.python_version(),
    }
    return hardware | ({"gpu": gpu} if (gpu := _gpu()) else {})


def digest() -> str:
    """Return 16 hexadecimal digits that stand for `identity`."""
    return hashlib.sha256(json.dumps(dict(identity()), sort_keys=True).encode()).hexdigest()[:16]


def facts(packages: Iterable[str]) -> dict[str, str]:
    """Return the hardware, the system and the versions of these packages, by name."""
    import onnxruntime  # takes a third of a second, and keys need only `identity`

    return {
        **identity(),
        "system": platform.platform(terse=True),
        "providers": ", ".join(onnxruntime.get_available_providers()),
        **{package: metadata.version(package) for package in packages},
    }


def _cores() -> str:
    """Return the number of cores that this process may use, such as `2` or `1.5`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = container_limits.cpu_quota()
    return f"{min(filter(None, (allowed or 1, quota))):g}"


def _memory_gb() -> float:
    limit = container_limits.memory_limit()
    total = psutil.virtual_memory().total
    return float(min(filter(None, (total, limit)))) / 1e9


def _processor() -> str:
    """Return the model of the processor; of an ARM one on Linux, the ids of its cores' designs."""
    if platform.system() == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
    content = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    if model := re.search(r"^model name\s*:\s*(.+)", content, re.MULTILINE):
        return model[1].strip()
    designs = re.findall(r"^CPU (?:implementer|variant|part)\s*:\s*(\S+)", content, re.MULTILINE)
    return " ".join([platform.processor() or platform.machine(), *dict.fromkeys(designs)])


def _gpu() -> str:
    """Return the models of the NVIDIA GPUs, as their driver lists them; empty without one."""
    models = []
    for file in sorted(_GPUS.glob("*/information")):
        with suppress(OSError):
            models += re.findall(r"^Model:\s*(.+)", file.read_text(), re.MULTILINE)
    return ", ".join(models)
