"""How much memory this process has held."""

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
