"""The limits that a container, a batch system or systemd sets on this process, from its cgroups.

https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html describe the files. A limit of any
ancestor counts, too. In a container, the root of what is mounted is the container's own cgroup.
"""

from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the number of cores whose time the process may use; None without a limit."""
    quotas = []
    for folder in _folders("cpu", cgroups, membership):
        quota, period = _read(folder / "cpu.max", 2) or (
            *(_read(folder / "cpu.cfs_quota_us") or ("",)),
            *(_read(folder / "cpu.cfs_period_us") or ("",)),
        )
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int | None:
    """Return how many bytes the process may use; None without a limit.

    Without one, version 1 of cgroups has a number that is larger than any machine's memory.
    """
    limits = []
    for folder in _folders("memory", cgroups, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(text) for text in _read(folder / name) or () if text.isdecimal()]
    return min(limits, default=None)


def _folders(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the process's cgroups of a controller, and of all above them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2, which may be mounted beside version 1
            roots = [cgroups, cgroups / "unified"]
        elif controller in controllers.split(","):
            roots = [cgroups / controllers, cgroups / controller]
        else:
            continue
        for root in roots:
            folder = root / path.strip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(root))


def _read(file: Path, words: int = 1) -> tuple[str, ...] | None:
    try:
        content = tuple(file.read_text().split())
    except OSError:
        return None
    return content if len(content) == words else None
