import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmflow.checkpoints import unsafe_settings
from slmflow.config.schema.model import Model, Source
from slmflow.errors import UserError
from slmflow.paths import PROJECT
from steps.fetch import fetch_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return shutil.copytree(PROJECT / "bundled" / "tiny_phi3", tmp_path / "tiny_phi3")


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"_attn_implementation_internal": "owner/kernel"},
        {"_attn_implementation": "owner/kernel@main"},
        {"attn_implementation": {"": "owner/kernel"}},
        {"_experts_implementation": "owner/kernel"},
        {"text_config": {"layers": [{"_attn_implementation": "eager"}]}},
    ],
)
def test_attention_implementation_is_rejected_by_fetch(
    checkpoint: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """CVE-2026-4372: transformers loads it as code."""
    change(checkpoint / "config.json", **settings)
    (target := tmp_path / "target").mkdir()

    with pytest.raises(UserError, match="which can load code: remove the key"):
        fetch_checkpoint(Model(source=Source.local, path=str(checkpoint)), target)


def test_deeply_nested_config_is_searched(checkpoint: Path) -> None:
    nested: dict[str, Any] = {"_attn_implementation": "owner/kernel"}
    for _ in range(900):
        nested = {"x": nested}
    change(checkpoint / "config.json", nested=nested)

    with pytest.raises(UserError, match="which can load code"):
        unsafe_settings.check(checkpoint, "model")


def test_boolean_of_older_transformers_passes(checkpoint: Path) -> None:
    change(checkpoint / "config.json", _attn_implementation_autoset=True)
    unsafe_settings.check(checkpoint, "model")


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "a\\b", "", "x\ny"])
@pytest.mark.parametrize("form", [dict, list])
def test_template_name_that_is_a_path_is_rejected(checkpoint: Path, name: str, form: type) -> None:
    """CVE-2026-9856: transformers writes a file of that name."""
    named = {"default": "x", name: "x"}
    listed = [{"name": each, "template": text} for each, text in named.items()]
    templates = named if form is dict else listed
    change(checkpoint / "tokenizer_config.json", chat_template=templates)

    with pytest.raises(UserError, match=f"named {re.escape(repr(name))}, which is not a plain"):
        unsafe_settings.check(checkpoint, "model")


def test_plain_template_names_pass(checkpoint: Path) -> None:
    templates = [{"name": n, "template": "x"} for n in ("default", "tool_use", "rag-2.1")]
    change(checkpoint / "tokenizer_config.json", chat_template=templates)
    unsafe_settings.check(checkpoint, "model")
