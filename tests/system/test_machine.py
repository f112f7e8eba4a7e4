"""What identifies the machine that measured timings."""

import math
import os
import subprocess
from pathlib import Path

import joblib
import psutil
import pytest

from slmflow.system import container_limits, machine
from tests.fixtures.machines import CPU, on_other_machine, other_machine

_PRINT = "from slmflow.system import machine; print(machine.digest(), machine.identity()['cpu'])"


def test_hardware_is_that_of_other_libraries() -> None:
    identity = machine.identity()
    assert math.ceil(float(identity["cores"])) == joblib.cpu_count()
    assert float(identity["memory"].split()[0]) <= psutil.virtual_memory().total / 1e9 + 0.05


def test_other_cpu_is_another_machine(tmp_path: Path) -> None:
    here = machine.digest()
    with other_machine(tmp_path):
        assert machine.digest() != here
        assert machine.facts(["mlflow"])["cpu"] == machine.identity()["cpu"] == CPU
    assert machine.digest() == here


def test_cores_of_the_process_count() -> None:
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores of Linux")
    core = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{core}])\n{_PRINT}; print(machine.facts([]))"
    printed = subprocess.run(
        ["python", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert "'cores': '1'" in printed
    assert machine.digest() not in printed


def test_arm_processor_is_told_by_its_design(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for part in ("0xd0c", "0xd40"):
        file = tmp_path / part
        file.write_text(f"processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: {part}\n")
        monkeypatch.setattr(machine, "_CPUINFO", file)
        names.append(machine._processor())
    assert [name.split()[-1] for name in names] == ["0xd0c", "0xd40"]


def test_host_name_does_not_count(tmp_path: Path) -> None:
    """The namespace has another CPU, too; two host names there give one machine."""
    command = on_other_machine(tmp_path, ["bash", "-c", f'hostname "$0"; python -c "{_PRINT}"'])
    printed = {
        subprocess.run([*command, host], capture_output=True, text=True, check=True).stdout
        for host in ("one", "two")
    }
    [line] = printed
    assert CPU in line
    assert machine.digest() not in line


@pytest.fixture
def cgroups(tmp_path: Path) -> tuple[Path, Path]:
    """Files as the kernel documents them: version 2 with a limit above, version 1 beside it."""
    root = tmp_path / "cgroup"
    for name, content in {
        "pod/cpu.max": "150000 100000\n",
        "pod/app/cpu.max": "max 100000\n",
        "pod/memory.max": "max\n",
        "pod/app/memory.max": "2000000000\n",
        "cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/job/memory.limit_in_bytes": "1000000000\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root, tmp_path / "membership"


@pytest.mark.parametrize(
    ("membership", "quota", "limit"),
    [
        ("0::/pod/app\n", 1.5, 2_000_000_000),
        ("4:cpu,cpuacct:/job\n3:memory:/job\n0::/\n", None, 1_000_000_000),
        ("0::/\n", None, None),
        ("", None, None),
    ],
)
def test_limits_of_the_container_count(
    cgroups: tuple[Path, Path], membership: str, quota: float | None, limit: int | None
) -> None:
    root, file = cgroups
    file.write_text(membership)
    assert container_limits.cpu_quota(root, file) == quota
    assert container_limits.memory_limit(root, file) == limit
