"""Token ids of messages, compared with transformers on the same template and tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder, validate_messages
from tests.fixtures.bundled_model import Reference

SYSTEM = {"role": "system", "content": "Be <b>brief</b> & kind."}
TURNS = [
    {"role": "user", "content": " What is the capital of France? "},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of 日本?"},
]
# Features that templates on the hub use: namespaces, loop controls, filters, macros, tests, JSON.
TEMPLATES = {
    "plain": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "bos, trimmed": "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' }}"
    "{{ m['content'] | trim }}{{ eos_token }}{% endfor %}",
    "namespace": "{%- set ns = namespace(first=true) -%}{%- for m in messages -%}"
    "{%- if ns.first -%}[{{ m.role }}]{%- set ns.first = false -%}{%- endif -%}"
    "{{ m.content }}{%- endfor -%}",
    "loop controls": "{% for m in messages %}{% if m.role == 'assistant' %}{% continue %}"
    "{% endif %}{{ loop.index }}{{ m.content }}{% if loop.index > 3 %}{% break %}{% endif %}"
    "{% endfor %}",
    "json": "{{ messages | tojson(indent=2) }}{{ messages[0] | tojson }}",
    "macro": "{% macro say(m) %}<s>{{ m.role | upper }} {{ m.content }}{% endmacro %}"
    "{% for m in messages %}{{ say(m) }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}\n"
    "{% endfor %}",
    "whitespace": "{% for m in messages %}\n    {% if true %}\n  {{ m.content }}\n    {% endif %}\n"
    "{% endfor %}",
    "no tools": "{% if tools is defined and tools %}tools{% endif %}{% if documents %}d{% endif %}"
    "{{ messages[-1].content }}",
    "year": "{{ strftime_now('%Y') }} {{ messages[-1].content }}",
}


def with_template(
    weights: Path, folder: Path, template: str | list[dict[str, str]], **settings: bool
) -> Path:
    """Copy the tokenizer, with a template and settings in `tokenizer_config.json`."""
    shutil.copytree(weights, folder, ignore=lambda *_: ["chat_template.jinja"])
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"chat_template": template} | settings
    file.write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("messages", [TURNS[:1], [SYSTEM, *TURNS]], ids=["one", "many"])
def test_token_ids_equal_those_of_transformers(
    weights: Path, tmp_path: Path, name: str, messages: list[dict[str, str]]
) -> None:
    folder = with_template(weights, tmp_path / "model", TEMPLATES[name])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    prompts = TemplatePromptEncoder(folder)
    assert prompts.encode_chat(messages) == expected
    text = messages[-1]["content"]
    assert prompts.encode_text(text) == tokenizer.encode(text, add_special_tokens=False)
    assert prompts.encode_document(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "  two  spaces ", "a\n\n b\t", "日本 🙂 é", "<|end|> in it", "x" * 300),
        *("<|end|>\u00a0no-break", "a\u2581b", "a\0b"),
    ],
)
def test_odd_texts_are_tokenized_as_with_transformers(
    onnx: Path, reference: Reference, text: str
) -> None:
    messages = [{"role": "user", "content": text}]
    assert TemplatePromptEncoder(onnx).encode_chat(messages) == reference.prompt(messages)


def test_bos_written_by_template_is_not_repeated(weights: Path, tmp_path: Path) -> None:
    """Llama's template starts with the token that its tokenizer also adds."""
    template = TEMPLATES["bos, trimmed"]
    folder = with_template(weights, tmp_path / "llama", template, add_bos_token=True)
    file = str(folder / "tokenizer.json")
    fast = Tokenizer.from_file(file)
    fast.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast.save(file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = TemplatePromptEncoder(folder).encode_chat(TURNS)
    assert ids == tokenizer.apply_chat_template(
        TURNS, add_generation_prompt=True, return_dict=False
    )
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.encode("a")[0] == tokenizer.bos_token_id


def test_default_of_several_templates_is_used(weights: Path, tmp_path: Path) -> None:
    several = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "{{ messages[0].content }}"},
    ]
    folder = with_template(weights, tmp_path / "model", several)
    prompts = TemplatePromptEncoder(folder)
    assert prompts.encode_chat(TURNS[:1]) == prompts.encode_text(TURNS[0]["content"])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.append(1) }}", "rejects these messages"),
        ("{{ ''.__class__.__mro__ }}", "rejects these messages"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "rejects these messages"),
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            "more than 200,000 iterations",
        ),
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}",
            "more than 200,000 iterations",
        ),
        ("{{ 'a' * 10 ** 9 }}", "of size"),
        ("{{ 'a'.center(10 ** 9) }}{{ 'a' | center(10 ** 9) }}", "of size"),
        (
            "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
            "{% endfor %}{{ n.x }}",
            "of size",
        ),
        (
            "{% set b = 'a' * 10 ** 6 %}{% for i in range(9999) %}{{ b }}{% endfor %}",
            "of size",
        ),
        ("{% set b = 'a' * 10 ** 6 %}{{ b.replace('a', b) }}", "of size"),
        ("{{ range(99999) | map('center', 100000) | list | length }}", "of size"),
    ],
)
def test_template_errors_and_attacks_are_rejected(
    weights: Path, tmp_path: Path, template: str, message: str
) -> None:
    prompts = TemplatePromptEncoder(with_template(weights, tmp_path / "model", template))
    with pytest.raises(MlflowException, match=message):
        prompts.encode_chat(TURNS)


def test_model_without_template_rejects_messages(weights: Path, tmp_path: Path) -> None:
    folder = with_template(weights, tmp_path / "model", "")
    with pytest.raises(MlflowException, match="has no chat template"):
        TemplatePromptEncoder(folder).encode_chat(TURNS)


@pytest.mark.parametrize(
    "messages",
    [None, [], "text", ["text"], [{"role": "user"}], [{"role": "boss", "content": "x"}]],
)
def test_invalid_messages_are_rejected(messages: Any) -> None:
    with pytest.raises(MlflowException):
        validate_messages(messages)
