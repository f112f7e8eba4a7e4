"""How much memory this process has held, and how to hold no more than it uses."""

import contextlib
import re
import sys
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Return the most memory this process has held; None where the system does not tell.

    Linux carries `ru_maxrss` across exec (`exec_mmap` in the kernel's fs/exec.c), so a child's is
    never below what its parent held at the fork; VmHWM begins anew.
    """
    if sys.platform == "linux":
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def give_back_freed() -> None:
    """Let memory that is freed go back to the system at once, in this process from now on.

    glibc raises the size from which it does so up to 32 MiB by itself; what is smaller then stays
    in its heap, and work in waves of large tensors leaves gigabytes there. Elsewhere this does
    nothing.
    """
    if sys.platform == "linux":
        import ctypes

        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h; to set it also ends the raising
        with contextlib.suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 20)
