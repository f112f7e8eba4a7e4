"""Settings of a checkpoint through which transformers would load code or write files elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmflow.checkpoints.files import (
    CONFIG,
    PROCESSOR_TEMPLATE,
    TOKENIZER_CONFIG,
    read_json_object,
)
from slmflow.errors import UserError

# CVE-2026-4372: transformers loads such an implementation as code from the hub.
_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation\w*")
_TEMPLATE_FILES = (TOKENIZER_CONFIG, PROCESSOR_TEMPLATE)
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def check(folder: Path, model: str) -> None:
    """Raise UserError, with all problems in one message, for settings that are unsafe to load."""
    problems = [*_implementations(read_json_object(folder / CONFIG, model))]
    for name in _TEMPLATE_FILES:
        if (folder / name).is_file():
            problems += _template_names(read_json_object(folder / name, model), name)
    if problems:
        raise UserError("\n".join(f"{model}: {problem}" for problem in problems))


def _implementations(config: dict[str, Any]) -> Iterator[str]:
    """Yield a problem for each implementation of attention that a config names, at any depth."""
    pending: list[Any] = [config]  # no recursion: JSON may be nested as deep as the stack allows
    while pending:
        match pending.pop():
            case dict() as settings:
                for key, value in settings.items():
                    # transformers 4.47 to 4.53 wrote a boolean `_attn_implementation_autoset`.
                    if _IMPLEMENTATION.fullmatch(key) and not isinstance(value, bool | None):
                        yield (
                            f"{CONFIG} has {key}={value!r}, which can load code: remove the key, "
                            "or do not trust this model"
                        )
                    else:
                        pending.append(value)
            case list() as values:
                pending += values


def _template_names(config: dict[str, Any], location: str) -> Iterator[str]:
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
