"""Models that lie in a folder of this machine."""

from pathlib import Path

import pytest

from slmflow.checkpoints import chat_template, local_folder
from slmflow.errors import UserError
from tests.hub import models

MODEL = "model.path='/m'"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return models.lay(tmp_path / "source", models.whole())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def test_the_files_of_the_model_are_copied(source: Path, target: Path) -> None:
    local_folder.copy(source, target, MODEL)
    copied = {file.name: file.read_bytes() for file in target.iterdir()}
    assert set(copied) == models.TAKEN
    assert all(models.whole()[name] == data for name, data in copied.items())


def test_link_inside_the_folder_is_followed(source: Path, target: Path) -> None:
    (source / "model.safetensors").rename(source / "blob")
    (source / "model.safetensors").symlink_to("blob")
    local_folder.copy(source, target, MODEL)
    assert not (target / "model.safetensors").is_symlink()
    assert (target / "model.safetensors").read_bytes() == models.whole()["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
@pytest.mark.parametrize("leads_to", ["../outside", "../nowhere"])
def test_link_out_of_the_folder_is_refused(
    source: Path, target: Path, name: str, leads_to: str
) -> None:
    (source.parent / "outside").write_bytes(b"secret")
    (source / name).unlink()
    (source / name).symlink_to(leads_to)
    with pytest.raises(UserError, match=f"{name} of .* is no file of this folder"):
        local_folder.copy(source, target, MODEL)
    assert not list(target.iterdir())


def test_folder_in_the_place_of_a_file_is_refused(source: Path, target: Path) -> None:
    (source / "config.json").unlink()
    (source / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config.json of .* is no file"):
        local_folder.copy(source, target, MODEL)


def test_target_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be copied to the store: No such file"):
        local_folder.copy(source, tmp_path / "missing", MODEL)


def test_weights_of_a_petabyte(source: Path, target: Path) -> None:
    with (source / "model.safetensors").open("r+b") as stream:
        stream.truncate(2**43)  # of holes; file systems take no more
    with pytest.raises(UserError, match=r"has 8,796,093.* MB, but the store has room for"):
        local_folder.copy(source, target, MODEL)
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "turns"),
        ("{{ 'a' * 10 ** 12 }}", "of size 1e"),
        ("{{ cycler.__init__.__globals__ }}", "is unsafe"),
        ("{% if true %}" * 3000, "cannot be read"),
    ],
    ids=["loops", "size", "system", "nested"],
)
def test_a_template_that_means_harm(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(text)
    with pytest.raises(UserError, match=said):
        chat_template.check(tmp_path, MODEL)
