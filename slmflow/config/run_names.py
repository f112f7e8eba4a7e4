"""Short names for runs and models: the model, the target, and what differs from the defaults.

`tiny_phi3 cpu_int4 b64 t0.7` is a model converted for `target=cpu_int4` with blocks of 64, which
samples at temperature 0.7.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, cast

from omegaconf import OmegaConf

from slmflow.config.compose import flatten_dict
from slmflow.config.config_keys import groups
from slmflow.config.schema.config import Config
from slmflow.paths import CONF

MAX_LENGTH = 100
"""The most characters of a name."""

_MODEL, _TARGET = "model.name", "target.name"

# Keys that are part of the name in any case, that change nothing in the result, or that say the
# same as another: where a model comes from is its name.
_HIDDEN = frozenset(
    {
        *(_MODEL, _TARGET, "model.source", "model.id", "model.path", "model.uri"),
        *("model.licence", "model.gated", "model.adapter_revision"),
        *("target.provider", "target.precision", "target.runtime"),
        *("target.quantization.smallest_block", "evaluation.margin"),
        *("evaluation.dataset", "evaluation.dataset.revision", "evaluation.dataset.file"),
        *("measurement.again", "calibration.held_out"),
    }
)
_NAMED_SECTIONS = (
    *("model", "target", "exporter", "calibration", "generation", "evaluation", "measurement"),
    "log_genai",
)
_FORMATS = MappingProxyType(
    {
        "model.adapter": "{}",
        "model.revision": "@{:.8}",
        "target.quantization.algorithm": "{}",
        "target.quantization.bits": "{}bit",
        "target.quantization.bits_per_weight": "{}bpw",
        "target.quantization.block_size": "b{}",
        "target.quantization.budget_mb": "{}MB",
        "exporter.name": "{}",
        "generation.max_new_tokens": "max{}",
        "generation.temperature": "t{}",
        "generation.top_p": "p{}",
        "evaluation.data": "{}",
        "evaluation.dataset.id": "{}",
        "evaluation.limit": "n{}",
        "evaluation.model_uri": "{}",
        "evaluation.tasks": "{}",
        "evaluation.traces.last": "traces{}",
        "log_genai.interface": "{}",
    }
)
_PATHS = frozenset(
    {
        *("calibration.data", "evaluation.data", "evaluation.dataset.id"),
        *("model.adapter", "model.template"),
    }
)


def describe(values: Mapping[str, Any], parts: Sequence[str], swept: Collection[str] = ()) -> str:
    """Return the name of what is made from some parts of the config.

    values: `flatten(config)`, in which a swept key may have the text of all its values; parts: keys
    and sections, such as `target`; swept: keys to name even if their value is the default.
    """
    names = [_text(values.get(_MODEL, values.get("model", "")))]
    if any(part.partition(".")[0] == "target" for part in parts):
        names.append(_text(values.get(_TARGET, values.get("target", ""))))
    defaults = _defaults(*(_choice(values, group) for group in ("model", "target")))
    for key, value in values.items():
        is_named = key.partition(".")[0] in _NAMED_SECTIONS and key not in ("model", "target")
        is_absent = key in _PATHS and value is None  # something else is in its place
        if key in _HIDDEN or is_absent or not is_named or not is_part(key, parts):
            continue
        if key in swept or value != defaults.get(key):
            names.append(_label(key, value))
    return shorten(" ".join(name for name in names if name))


def shorten(name: str) -> str:
    """Return a name on one line, of at most `MAX_LENGTH` characters; an ellipsis marks a cut."""
    line = " ".join(name.split())
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1].rstrip()}…"


def is_part(key: str, parts: Sequence[str]) -> bool:
    """Return whether a key is one of `parts`, or below one."""
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def _label(key: str, value: Any) -> str:
    """Return a difference: `b64`, `t0.7`, `seed=3`."""
    text = _text(PurePosixPath(str(value)).stem if key in _PATHS and value else value)
    if key in _FORMATS and value is not None:
        return _FORMATS[key].format(text)
    return f"{key.rpartition('.')[2]}={text}"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    if isinstance(value, list):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choice(values: Mapping[str, Any], group: str) -> str | None:
    """Return the file of a group that has a model's or target's name, if there is one."""
    name = values.get(f"{group}.name")
    return name if name in groups()[group] else None


@functools.cache
def _defaults(model: str | None, target: str | None) -> Mapping[str, Any]:
    """Return the values that a model and a target have if nothing else is chosen, by key.

    Reads the files of `conf/` themselves: composing them with Hydra takes a third of a second.
    """
    chosen = {"model": model, "target": target}
    body = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))
    groups_of_body = [each for each in body.pop("defaults") if isinstance(each, dict)]
    sections = {group: choice for each in groups_of_body for group, choice in each.items()}
    for group, choice in sections.items():
        file = chosen.get(group, choice)
        if group in _NAMED_SECTIONS and file is not None:
            body[group] = OmegaConf.load(CONF / group / f"{file}.yaml")
    named = {name: section for name, section in body.items() if name in _NAMED_SECTIONS}
    merged = OmegaConf.merge(OmegaConf.structured(Config), named)
    nested = cast(dict[str, Any], OmegaConf.to_container(merged, enum_to_str=True))
    return flatten_dict({name: nested[name] for name in _NAMED_SECTIONS})
