"""Chat templates of untrusted models."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmflow.checkpoints import chat_template
from slmflow.errors import BadArguments, UserError
from slmflow.paths import PROJECT
from slmflow.runtime.prompts.template import ChatTemplate

TINY_PHI3 = PROJECT / "bundled" / "tiny_phi3"
MINE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[bot]"
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "more than 200,000 iterations",
        ),
        ("{{ 'a' * 10 ** 12 }}", "of size 1e"),
        ("{{ cycler.__init__.__globals__ }}", "is unsafe"),
        ("{% if true %}" * 3000, "template is invalid"),
    ],
    ids=["loops", "size", "system", "nested"],
)
def test_harmful_template_is_rejected(tmp_path: Path, template: str, message: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=message):
        chat_template.check(tmp_path, "model.path='/m'")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no users') }}", "rejects these messages: no users: give a chat"),
        ("{{ messages[0].content | nosuch }}", "is invalid: No filter named 'nosuch'"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "trust"),
        ("# A README, not a template", "leaves out the content of a user message"),
    ],
)
def test_file_that_renders_no_question_is_rejected(
    tmp_path: Path, template: str, message: str
) -> None:
    (tmp_path / "mine.jinja").write_text(template)
    with pytest.raises(UserError, match=message):
        chat_template.check_file(tmp_path / "mine.jinja", "model.template='mine.jinja'")


@pytest.mark.parametrize("own", ["settings", "named", "file", "further files", "none"])
def test_template_replaces_the_models_own(tmp_path: Path, own: str) -> None:
    """What transformers renders, and what the runtime renders, is the user's template."""
    from transformers import AutoTokenizer

    folder, file = tmp_path / "model", tmp_path / "mine.jinja"
    shutil.copytree(TINY_PHI3, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    set_template(folder, own)
    file.write_text(MINE)
    chat_template.check_file(file, "model.template")
    assert chat_template.is_missing(folder) == (own == "none")
    assert chat_template.replace(folder, file) == (own != "none")
    expected = "<s>[user] Hello\n[bot]"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template(MESSAGES, tokenize=False) == expected
    assert ChatTemplate(folder).render(MESSAGES) == expected
    assert not chat_template.is_missing(folder)
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())


def set_template(folder: Path, own: str) -> None:
    settings = folder / "tokenizer_config.json"
    values: dict[str, Any] = json.loads(settings.read_text())
    template = values.pop("chat_template")
    if own == "settings":
        values["chat_template"] = template
    elif own == "named":
        values["chat_template"] = [{"name": "default", "template": template}]
    elif own == "file":
        (folder / "chat_template.jinja").write_text(template)
    elif own == "further files":
        (folder / "additional_chat_templates").mkdir()
        for name in ("default", "tool_use"):
            (folder / "additional_chat_templates" / f"{name}.jinja").write_text(template)
    settings.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("source", "variables", "problem"),
    [
        (
            "{{ messages }}{{ enable_thinking }}",
            {"enable_thinkin": False},
            "enable_thinkin is not a variable of the model's chat template: it uses enable_think",
        ),
        (
            "{% if effort != 'low' %}{{ raise_exception('effort: use low') }}{% endif %}",
            {"effort": "high"},
            "effort=high: the model's chat template rejects these messages: effort: use low",
        ),
        (None, {"enable_thinking": False}, "the model has no chat template"),
    ],
    ids=["unknown", "rejected", "no template"],
)
def test_unusable_variable_is_reported_before_any_work(
    tmp_path: Path, source: str | None, variables: dict[str, Any], problem: str
) -> None:
    if source:
        (tmp_path / "chat_template.jinja").write_text(source)
    with pytest.raises(BadArguments, match=re.escape(f"generation.template: {problem}")):
        chat_template.check_variables(tmp_path, variables)
    chat_template.check_variables(tmp_path, {})
