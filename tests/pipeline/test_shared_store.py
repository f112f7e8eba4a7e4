"""A store of several users: real users, groups and modes. Only root can become other users."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slmflow.paths import PROJECT
from slmflow.pipeline.digests import LARGE_BYTES

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

ALICE, BOB, TEAM = 61001, 61002, 61000

# The interpreter may lie where only root can read, so the process imports all before it becomes
# the user.
SCRIPT = """
import os
import pwd, grp
import sys
from pathlib import Path
from slmflow.errors import UserError
from slmflow.measurement.journal import Journal
from slmflow.pipeline import digests, entries

user, group, umask = map(int, sys.argv[1:4])
os.setgroups([group])
os.setgid(user)
os.setuid(user)
os.umask(umask)

def build(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_bytes(b"w")

try:
    for key in sys.argv[4:]:
        print(entries.get_or_build("weights", key * 64, build))
    digests._TIME_RESOLUTION_S = 0.0  # as if the file were older
    digests.of_path(Path("model"))
    Journal("answers", "j").append({"from": user})
    print(len(Journal("answers", "j").read()))
except UserError as fault:
    sys.exit(f"error: {fault}")
"""


@dataclass(frozen=True)
class SharedFolder:
    """A folder for the store, which all users can reach."""

    home: Path

    def run(self, user: int, *keys: str, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
        """Build entries, and append to a journal, as a user of the team with a private group."""
        environment = {
            "PATH": os.environ["PATH"],
            "SLMFLOW_HOME": str(self.home),
            "PYTHONPATH": str(PROJECT),
            "XDG_CACHE_HOME": str(self.home.with_name(f"cache-{user}")),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, (user, TEAM, umask)), *keys],
            env=environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
        )

    def make(self, owner: int, group: int, mode: int) -> None:
        """Create the store's folder."""
        model = self.home.with_name("model")
        model.mkdir()
        (model / "weights").write_bytes(bytes(LARGE_BYTES))
        for user in (ALICE, BOB):
            cache = self.home.with_name(f"cache-{user}")
            cache.mkdir()
            os.chown(cache, user, user)
        self.home.mkdir()
        os.chown(self.home, owner, group)
        self.home.chmod(mode)


@pytest.fixture
def folder() -> Iterator[SharedFolder]:
    base = Path(tempfile.mkdtemp(dir="/tmp"))
    base.chmod(0o755)
    try:
        yield SharedFolder(base / "store")
    finally:
        shutil.rmtree(base)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_team_shares_a_setgid_folder(folder: SharedFolder, umask: int) -> None:
    folder.make(0, TEAM, 0o2770)

    first = folder.run(ALICE, "a", umask=umask)
    second = folder.run(BOB, "a", "b", umask=umask)
    third = folder.run(ALICE, "b", "c", umask=umask)

    assert [done.stderr for done in (first, second, third)] == ["", "", ""]
    assert third.stdout.splitlines()[-1] == "3"  # both write the journal
    for path in folder.home.rglob("*"):
        status = path.lstat()
        assert status.st_gid == TEAM
        assert status.st_mode & stat.S_IWGRP, path


def test_entry_of_another_user_is_built_again(folder: SharedFolder) -> None:
    folder.make(0, TEAM, 0o2770)
    entry = Path(folder.run(ALICE, "a").stdout.splitlines()[0])
    (entry / "sub" / "weights").write_bytes(b"damaged")

    second = folder.run(BOB, "a")

    assert "building it again" in " ".join(second.stderr.split())
    assert (entry / "sub" / "weights").read_bytes() == b"w"
    assert (entry / "sub" / "weights").stat().st_uid == BOB


def test_store_of_another_user_is_read_without_locks(folder: SharedFolder) -> None:
    folder.make(ALICE, ALICE, 0o755)
    entry = folder.run(ALICE, "a").stdout.splitlines()[0]
    before = sorted(folder.home.rglob("*"))

    second = folder.run(BOB, "a")

    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.splitlines() == [entry, "1"]
    assert sorted(folder.home.rglob("*")) == before
    # What the store cannot keep is in the user's cache: the digests of the user's model.
    assert len([*folder.home.with_name(f"cache-{BOB}").rglob("digests/*.json")]) == 1


def test_unwritable_store_names_folder_and_mode(folder: SharedFolder) -> None:
    folder.make(ALICE, ALICE, 0o755)
    folder.run(ALICE, "a")

    second = folder.run(BOB, "b")

    assert second.returncode == 1
    assert second.stderr.count("error:") == 1
    message = " ".join(second.stderr.split())
    assert f"{folder.home}/building has mode 0755, drwxr-xr-x, and belongs to" in message
    assert f"{ALICE}:{ALICE}" in message
    assert "set SLMFLOW_HOME to a writable folder" in message


def test_folder_without_setgid_names_folder_and_mode(folder: SharedFolder) -> None:
    folder.make(ALICE, TEAM, 0o775)
    folder.run(ALICE, "a")

    second = folder.run(BOB, "b")

    message = " ".join(second.stderr.split())
    assert second.returncode == 1
    assert f"{folder.home}/locks has mode 0755" in message
    assert "chmod -R g+rwX" in message


def test_unreadable_entry_names_file_and_mode(folder: SharedFolder) -> None:
    folder.make(ALICE, ALICE, 0o755)
    entry = Path(folder.run(ALICE, "a").stdout.splitlines()[0])
    (entry / "sub" / "weights").chmod(0o600)

    second = folder.run(BOB, "a")

    message = " ".join(second.stderr.split())
    assert second.returncode == 1
    assert f"{entry}/sub/weights has mode 0600, -rw-------, and belongs to" in message
    assert "building it again" not in message
