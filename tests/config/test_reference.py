"""The entries of the config reference."""

from slmflow.config.config_keys import groups, kinds
from slmflow.config.reference import Entry, group_entries, key_entries
from slmflow.config.schema.fields import Kind

ENTRIES = {entry.name: entry for entry in key_entries()}


def test_every_key_has_one_line_of_documentation() -> None:
    assert set(ENTRIES) - set(kinds()) == {"sweep.over"}  # only files set it
    for entry in ENTRIES.values():
        assert entry.doc.strip() and "\n" not in entry.doc


def test_entries_have_type_default_choices_and_kind() -> None:
    provider = ENTRIES["target.provider"]
    assert (provider.type, provider.default) == ("choice", "cpu")
    assert provider.choices == ("cpu", "cuda", "dml")
    assert ENTRIES["evaluation.limit"].type == "int or null"
    assert ENTRIES["evaluation.data"].kind is Kind.path
    assert ENTRIES["evaluation.metrics"].type == "list[str]"
    assert ENTRIES["registry.gate.<column>.min"] == Entry(
        "registry.gate.<column>.min",
        "float or null",
        None,
        (),
        Kind.value,
        "lowest value that passes",
    )


def test_groups_have_default_choices_and_documentation() -> None:
    entries = {group.name: group for group in group_entries()}

    assert {name: group.choices for name, group in entries.items()} == {
        name: tuple(choices) for name, choices in groups().items()
    }
    assert entries["target"].default == "cpu_int4"
    assert all(group.default in group.choices and group.doc for group in entries.values())
