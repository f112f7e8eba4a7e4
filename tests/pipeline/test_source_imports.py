"""What a source imports, and what of it is kept for later processes."""

import json
from pathlib import Path

import pytest

from slmflow.pipeline.source_imports import Imports, _Kept

SOURCE = """
import slmflow.paths
def f():
    from . import near
    from ..upper import name
WORKER = ["-m", "slmflow.measurement.worker"]
"""
IMPORTS = Imports(
    ["slmflow.a", "slmflow.a.near", "slmflow.paths", "slmflow.upper", "slmflow.upper.name"],
    ["slmflow.measurement.worker"],
)


def test_imports_are_absolute_names(tmp_path: Path) -> None:
    assert _Kept(tmp_path / "kept.json").parse(SOURCE, "slmflow.a") == IMPORTS


def test_kept_imports_are_not_parsed_again(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "kept.json"
    first = _Kept(file)
    first.parse(SOURCE, "slmflow.a")
    first.save()
    content = json.loads(file.read_text())
    [key] = content["imports"]
    content["imports"][key] = [["of another process"], []]
    file.write_text(json.dumps(content))

    later = _Kept(file)

    assert later.parse(SOURCE, "slmflow.a").imported == ["of another process"]
    assert later.parse(f"{SOURCE}\n", "slmflow.a") == IMPORTS
    assert later.parse(SOURCE, "slmflow.b") != IMPORTS


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"parser": "another", "imports": {}}', '{"imports": {"a": 1}}']
)
def test_unusable_file_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kept.json"
    file.write_text(text)
    kept = _Kept(file)
    assert kept.parse(SOURCE, "slmflow.a") == IMPORTS
    kept.save()
    assert json.loads(file.read_text())["imports"]
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = _Kept(tmp_path / "file" / "kept.json")
    assert kept.parse(SOURCE, "slmflow.a") == IMPORTS
    kept.save()
