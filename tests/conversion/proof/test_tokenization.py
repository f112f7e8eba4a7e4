"""What is served, against transformers' tokenizer and apply_chat_template."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slmflow.conversion.proof import tokenization
from slmflow.errors import UserError
from tests.conversion.architectures import BUNDLED
from tests.fixtures.base_model import BOS, make_base_model

# Templates of models that know only some roles or no system turn, as Gemma's and Mistral's.
TEMPLATES = {
    "no system turn": "{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}",
    "alternating": "{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ bos_token }}[INST] {{ m.content }} [/INST]{% endfor %}",
    "user turns only": "{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}",
    "all rejected": "{{ raise_exception('no') }}",
    "method calls": "{% for m in messages %}{{ m.content.replace('a', 'b').rstrip() }}{% endfor %}",
    "date": "{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}",
    "JSON": "{{ messages | tojson }}",
}


def _folder(path: Path, template: str | None = None) -> Path:
    shutil.copytree(BUNDLED, path, ignore=shutil.ignore_patterns("*.safetensors"))
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


@pytest.mark.parametrize("name", TEMPLATES)
def test_served_prompts_equal_transformers(tmp_path: Path, name: str) -> None:
    folder = _folder(tmp_path / "model", TEMPLATES[name])
    probes = tokenization.build_probes(AutoTokenizer.from_pretrained(folder))

    assert tokenization.check(probes, folder) == 0


def test_special_tokens_of_prompts_are_compared(tmp_path: Path) -> None:
    """A base model's prompts have them, and /v1/completions of any model."""
    base = make_base_model(tmp_path / "base")
    probes = tokenization.build_probes(PreTrainedTokenizerFast.from_pretrained(base))

    assert tokenization.check(probes, base) == 0
    assert all(probe.document_ids[0] == BOS for probe in probes if probe.document_ids)
    with pytest.raises(UserError, match=r"encodes .* otherwise than transformers"):
        tokenization.check(probes, _folder(tmp_path / "without"))


def test_rejected_conversations_have_no_ids(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model", TEMPLATES["no system turn"])
    probes = tokenization.build_probes(AutoTokenizer.from_pretrained(folder))

    rejected = [probe.content for probe in probes if probe.ids is None]
    with_system = [turns for turns in tokenization.CONVERSATIONS if turns[0]["role"] == "system"]
    assert rejected == with_system


def test_probes_cover_what_tokenizers_disagree_on() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    probes = tokenization.build_probes(tokenizer)

    texts = [probe.content for probe in probes if isinstance(probe.content, str)]
    assert all(any(token in text for text in texts) for token in tokenizer.all_special_tokens)
    assert any("u\u0308" in text for text in texts)
    assert any("\u00a0" in text for text in texts)
    roles = [[turn["role"] for turn in turns] for turns in tokenization.CONVERSATIONS]
    assert ["system", "user", "assistant", "user"] in roles


@pytest.mark.parametrize(
    ("file", "old", "new", "example"),
    [
        ("tokenizer.json", '"prepend":"▁"', '"prepend":"▁▁"', "What is the capital of France"),
        ("tokenizer_config.json", "<|system|>", "<|user|>", "You are brief"),
    ],
)
def test_difference_is_shown_by_an_example(
    tmp_path: Path, file: str, old: str, new: str, example: str
) -> None:
    folder = _folder(tmp_path / "model")
    probes = tokenization.build_probes(AutoTokenizer.from_pretrained(folder))
    content = json.dumps(json.loads((folder / file).read_text()), ensure_ascii=False)
    content = content.replace('": "', '":"')
    assert old in content
    (folder / file).write_text(content.replace(old, new))

    message = rf"\d+ of {len(probes)} probes otherwise than transformers, such as .*{example}"
    with pytest.raises(UserError, match=message):
        tokenization.check(probes, folder)
