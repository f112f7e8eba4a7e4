"""The memory of this process: its peak, and how to return freed memory."""

import contextlib
import re
import sys
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Return the peak resident memory of this process; None if the system does not report it.

    Reads VmHWM on Linux: `ru_maxrss` survives exec (`exec_mmap` in the kernel's fs/exec.c), so a
    child's is never below that of its parent at the fork.
    """
    if sys.platform == "linux":
        match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(match[1]) * 1024 if match else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def return_freed_memory() -> None:
    """Make this process return freed memory to the system at once; with glibc only.

    glibc raises the size from which it does so, up to 32 MiB. Smaller blocks then stay in its heap,
    which grows by gigabytes when large tensors come and go.
    """
    if sys.platform == "linux":
        import ctypes

        m_mmap_threshold = -3  # of malloc.h; setting it also stops glibc from raising it
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(m_mmap_threshold, 1 << 20)
