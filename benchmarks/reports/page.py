"""What all benchmark reports share: the Markdown page, versions and machine, the files."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from slmflow.system import machine
from slmflow.system.git_state import read_git_state


class Report(Protocol):
    """A measurement that can be written as Markdown and as JSON."""

    def markdown(self) -> str:
        """Return the page."""

    def json(self) -> str:
        """Return all raw values."""


def write(report: Report, folder: Path, name: str) -> None:
    """Write NAME.md and NAME.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(report.markdown().rstrip("\n") + "\n")
    (folder / f"{name}.json").write_text(report.json() + "\n")


def render(title: str, table: str, notes: Iterable[str]) -> str:
    """Return a Markdown page: title, table, list of notes."""
    return "\n\n".join([f"# {title}", table, bullets(notes)])


def bullets(notes: Iterable[str]) -> str:
    """Return notes as a Markdown list."""
    return "\n".join(f"- {note}" for note in notes)


def setup_note(packages: Sequence[str]) -> str:
    """Return date, machine and package versions as a note."""
    versions = ", ".join(f"{name} {version}" for name, version in _versions(packages).items())
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine.description()}, {versions}"


def setup_fields(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return machine, package versions and git state as fields of the JSON file."""
    versions = {"versions": _versions(packages)} if packages else {}
    return {"machine": machine.description(), **versions, "git": read_git_state()}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {package: metadata.version(package) for package in packages}
