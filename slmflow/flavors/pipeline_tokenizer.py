"""Adapt the tokenizer of a logged pipeline, which MLflow saves beside the checkpoint.

MLflow's transformers flavor passes no variables to a chat template and drops special tokens from
answers. So the saved template gets the configured variables as defaults, and the tags around
reasoning become tokens with text, so that the reasoning can be told from the answer.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from slmflow.runtime.prompts.template_variables import template_with_defaults

_FOLDER = Path("components", "tokenizer")


def adapt(model: Path, variables: Mapping[str, Any], visible_tokens: Collection[str]) -> None:
    """Adapt the tokenizer in the folder of a saved MLflow model."""
    folder = model / _FOLDER
    if variables:
        template = folder / "chat_template.jinja"
        template.write_text(template_with_defaults(template.read_text("utf-8"), variables), "utf-8")
    if visible_tokens:
        _edit(folder / "tokenizer.json", lambda fields: _show(fields, visible_tokens))
        _edit(folder / "tokenizer_config.json", lambda fields: _forget(fields, visible_tokens))


def _edit(file: Path, change: Any) -> None:
    fields = json.loads(file.read_text("utf-8"))
    change(fields)
    file.write_text(json.dumps(fields, indent=2, ensure_ascii=False), "utf-8")


def _show(tokenizer: dict[str, Any], tokens: Collection[str]) -> None:
    for token in tokenizer["added_tokens"]:
        if token["content"] in tokens:
            token["special"] = False


def _forget(settings: dict[str, Any], tokens: Collection[str]) -> None:
    """Remove tokens from the list that would make them special again."""
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, list):
        settings["extra_special_tokens"] = [each for each in extra if each not in tokens]
