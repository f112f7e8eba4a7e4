"""Records in the store that are appended one by one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slmflow.measurement.journal import Journal, model_names
from slmflow.pipeline import store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_records_are_read_in_their_order() -> None:
    Journal("kind", "key").append({"row": 1})
    Journal("kind", "key").append({"row": 2, "text": "首都\n"})
    assert Journal("kind", "key").read() == [{"row": 1}, {"row": 2, "text": "首都\n"}]
    assert Journal("kind", "other").read() == []


def test_journal_names_its_models_once() -> None:
    for name in ("mine", "mine", "other", ""):
        journal = Journal("kind", "key", name)
        journal.read()
        journal.append({"row": 1})
        journal.append({"row": 2})
    file = store.workspace() / "kind" / "key.jsonl"
    assert model_names(file) == ["mine", "other"]
    assert file.read_text().count("about") == 2
    assert Journal("kind", "key").read() == [{"row": 1}, {"row": 2}] * 4


def test_models_of_a_broken_journal_are_unknown() -> None:
    file = store.workspace() / "kind" / "key.jsonl"
    assert model_names(file) == []
    file.parent.mkdir(parents=True)
    names = ("[1]", '"a\\u001b"', f'"{"x" * 5000}"')
    broken = ('{"about": 1}', '{"about', *(f'{{"about": {{"model": {name}}}}}' for name in names))
    file.write_text("\n".join(broken))
    assert model_names(file) == []


def test_line_cut_by_a_kill_is_skipped() -> None:
    journal = Journal("kind", "key")
    journal.append({"row": 1})
    file = store.workspace() / "kind" / "key.jsonl"
    with file.open("ab") as stream:
        stream.write(b'{"row": 2, "te\xff')
    journal.append({"row": 3})
    assert journal.read() == [{"row": 1}, {"row": 3}]


def test_writers_do_not_mix_their_lines() -> None:
    journal = Journal("kind", "key")
    records = [{"row": number, "text": "x" * 20_000} for number in range(64)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(journal.append, records))
    assert sorted(journal.read(), key=lambda record: record["row"]) == records


def test_removed_journal_leaves_no_folder() -> None:
    journal = Journal("kind", "key")
    journal.append({})
    journal.remove()
    assert not (store.workspace() / "kind").exists()
    journal.remove()


def test_unwritable_store_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "file"))
    journal = Journal("kind", "key")
    journal.append({"row": 1})
    assert journal.read() == []
    journal.remove()
