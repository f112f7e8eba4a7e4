"""Settings of a checkpoint through which transformers would load code or write files elsewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmflow.checkpoints.files import CONFIG
from slmflow.errors import UserError

# CVE-2026-4372: transformers loads such an implementation as code from the hub.
_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation\w*")
_TEMPLATE_FILES = ("tokenizer_config.json", "chat_template.json")
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def check(folder: Path, model: str) -> None:
    """Raise UserError, with all problems in one message, for settings that are unsafe to load."""
    problems = [*_implementations(_read(folder / CONFIG), CONFIG)]
    for name in _TEMPLATE_FILES:
        problems += _template_names(_read(folder / name), name)
    if problems:
        raise UserError("\n".join(f"{model}: {problem}" for problem in problems))


def _read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _implementations(value: Any, location: str) -> Iterator[str]:
    """Yield a problem for each implementation of attention that a config names, at any depth."""
    match value:
        case dict():
            for key, child in value.items():
                # transformers 4.47 to 4.53 wrote a boolean `_attn_implementation_autoset`.
                if _IMPLEMENTATION.fullmatch(key) and not isinstance(child, bool | None):
                    yield (
                        f"{location} has {key}={child!r}, which can load code: remove the key, or "
                        "do not trust this model"
                    )
                else:
                    yield from _implementations(child, location)
        case list():
            for child in value:
                yield from _implementations(child, location)


def _template_names(config: Any, location: str) -> Iterator[str]:
    """Yield a problem for each template name that is a path (CVE-2026-9856).

    transformers saves a named template to a file of that name.
    """
    templates = config.get("chat_template")
    if isinstance(templates, list):
        names = [each.get("name") if isinstance(each, dict) else each for each in templates]
    else:
        names = list(templates) if isinstance(templates, dict) else []
    for name in names:
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            yield (
                f"{location} has a chat template named {name!r}, which is not a plain name: rename "
                "it, or do not trust this model"
            )
