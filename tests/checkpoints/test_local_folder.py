"""Copies of checkpoints from local folders."""

from pathlib import Path

import pytest

from slmflow.checkpoints import local_folder
from slmflow.errors import UserError
from tests.fixtures import tiny_checkpoints

MODEL = "model.path='/m'"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_checkpoints.write_files(tmp_path / "source", tiny_checkpoints.single_file())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_selected_files_are_copied(source: Path, target: Path) -> None:
    local_folder.copy(source, target, MODEL)
    copied = {file.name: file.read_bytes() for file in target.iterdir()}
    content = tiny_checkpoints.single_file()
    assert copied == {name: content[name] for name in tiny_checkpoints.SELECTED}


def test_further_chat_templates_are_copied(source: Path, target: Path) -> None:
    template = source / "additional_chat_templates" / "tool_use.jinja"
    template.parent.mkdir()
    template.write_text("{{ tools }}")
    local_folder.copy(source, target, MODEL)
    assert (target / template.relative_to(source)).read_text() == "{{ tools }}"


def test_link_inside_the_folder_is_resolved(source: Path, target: Path) -> None:
    weights = source / "model.safetensors"
    weights.rename(source / "blob")
    weights.symlink_to("blob")
    local_folder.copy(source, target, MODEL)
    assert not (target / "model.safetensors").is_symlink()
    assert (target / "model.safetensors").read_bytes() == (source / "blob").read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
@pytest.mark.parametrize("link", ["../outside", "../nowhere"])
def test_link_out_of_the_folder_is_rejected(
    source: Path, target: Path, name: str, link: str
) -> None:
    (source.parent / "outside").write_bytes(b"secret")
    (source / name).unlink()
    (source / name).symlink_to(link)
    with pytest.raises(UserError, match=f"{name} of .* is not a file in this folder"):
        local_folder.copy(source, target, MODEL)
    assert not list(target.iterdir())


def test_folder_in_place_of_a_file_is_rejected(source: Path, target: Path) -> None:
    (source / "config.json").unlink()
    (source / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config.json of .* is not a file"):
        local_folder.copy(source, target, MODEL)


def test_unwritable_target_is_reported(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be copied to the store: No such file"):
        local_folder.copy(source, tmp_path / "missing", MODEL)


def test_too_little_disk_space_is_reported(source: Path, target: Path) -> None:
    with (source / "model.safetensors").open("r+b") as stream:
        stream.truncate(2**43)  # a sparse file of the largest size that file systems accept
    with pytest.raises(UserError, match=r"needs 8,796,093.* MB, but .* set SLMFLOW_HOME"):
        local_folder.copy(source, target, MODEL)
    assert not list(target.iterdir())
