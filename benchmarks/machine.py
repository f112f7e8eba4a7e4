"""What a measurement was made on."""

import os
import platform
import re
from pathlib import Path


def description() -> str:
    """Return the processor, the number of cores and the memory in 10^9 bytes, on one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GB"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.exists() and re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
    return found[1].strip() if found else platform.processor() or platform.machine()
