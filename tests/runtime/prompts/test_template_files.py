"""Where chat templates and their special tokens stand, compared with transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from transformers import PreTrainedTokenizerFast

from slmflow.runtime.prompts.template import ChatTemplate
from tests.conversion.architectures import BUNDLED

TURNS = [{"role": "user", "content": "Hi"}]
SEVERAL = [
    {"name": "tool_use", "template": "tools"},
    {"name": "default", "template": "several {{ messages[0].content }}"},
]


def _change_settings(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _write(folder: Path, name: str, template: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(template)


def _named_extra_tokens(folder: Path) -> None:
    extra = {"turn_token": "<|end|>", "start_of_image": "<|user|>"}
    _write(folder, "chat_template.jinja", "{{ turn_token }}|{{ start_of_image }}|{{ eos_token }}")
    eos = {"__type": "AddedToken", "content": "<|end|>"}
    _change_settings(folder, extra_special_tokens=extra, eos_token=eos)


def _extra_tokens_beside_the_usual(folder: Path) -> None:
    _write(folder, "chat_template.jinja", "{{ image_token }}|{{ add_bos_token }}|{{ bos_token }}")
    _change_settings(folder, **{"image_token": "<|user|>", "add_bos_token": True})


def _listed_extra_tokens(folder: Path) -> None:
    _write(folder, "chat_template.jinja", "{{ extra_special_tokens }}|{{ bos_token }}")
    _change_settings(folder, extra_special_tokens=["<|user|>"])


def _file_beside_settings(folder: Path) -> None:
    _write(folder, "chat_template.jinja", "file {{ messages[0].content }}")
    _change_settings(folder, chat_template=SEVERAL)


def _further_files(folder: Path) -> None:
    _write(folder, "chat_template.jinja", "file {{ messages[0].content }}")
    _write(folder, "additional_chat_templates/tool_use.jinja", "tools")


def _default_among_further_files(folder: Path) -> None:
    _further_files(folder)
    _write(folder, "additional_chat_templates/default.jinja", "default {{ messages[0].content }}")


@pytest.mark.parametrize(
    "change",
    [
        *(_named_extra_tokens, _extra_tokens_beside_the_usual, _listed_extra_tokens),
        *(_file_beside_settings, _further_files, _default_among_further_files),
        lambda folder: _change_settings(folder, chat_template=SEVERAL),
    ],
)
def test_rendered_text_equals_that_of_transformers(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    change(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)

    assert ChatTemplate(folder).render(TURNS) == expected


def test_name_of_an_extra_token_cannot_replace_messages(tmp_path: Path) -> None:
    _write(tmp_path, "chat_template.jinja", "{{ messages[0].content }}")
    (tmp_path / "tokenizer_config.json").write_text('{"extra_special_tokens": {"messages": "x"}}')

    assert ChatTemplate(tmp_path).render(TURNS) == "Hi"


def test_templates_without_a_default_take_no_messages(tmp_path: Path) -> None:
    _write(tmp_path, "additional_chat_templates/tool_use.jinja", "tools")

    with pytest.raises(MlflowException, match="has no chat template"):
        ChatTemplate(tmp_path).render(TURNS)
