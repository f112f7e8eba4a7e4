"""Hydra overrides from the command line, and the refusal of unknown keys and choices.

MLflow appends `--a.b c` for every `-P a.b=c` that MLproject does not declare. `from_arguments`
makes of it the override `a.b=c`, and takes overrides in Hydra's own form too.
"""

import re
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from slmflow.config.config_keys import ANY_NAMES, groups, kinds, match_pattern
from slmflow.config.schema.fields import Kind
from slmflow.errors import BadArguments
from slmflow.runtime.unknown_names import closest, did_you_mean

_HYDRA_FLAGS = frozenset({"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"})
_NO_REUSE, _BOOLEANS = "--no-reuse", ("true", "false")
_OVERRIDE = re.compile(r"[^-=][^=]*=")
_QUOTED = re.compile(r"""(['"])(\\.|(?!\1)[^\\])*\1""", re.DOTALL)
_KEY = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*", re.ASCII | re.IGNORECASE)

# Hydra's parser and OmegaConf recurse into nested values. No key takes a deeply nested one.
_MAX_BRACKETS = 50


def from_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the Hydra overrides for a step's arguments.

    `["model=tiny_phi3", "--generation.temperature", "0.2"]` gives
    `["model=tiny_phi3", "generation.temperature=0.2"]`. The value of a literal key (see `Kind`) is
    quoted, so that Hydra takes `2024_06`, `1e3` or `a,b` as text. Two values are not: `null`, and
    text that is already in quotes (`'null'` is the text). Of other keys, only a value that is no
    Hydra expression is quoted. `--no-reuse`, also with the value `true`, is `fresh=[all]`. Raises
    BadArguments.
    """
    remaining = list(arguments)
    overrides = []
    while remaining:
        argument = remaining.pop(0)
        if argument == _NO_REUSE:
            if not remaining or remaining[0] not in _BOOLEANS or remaining.pop(0) == "true":
                overrides.append("fresh=[all]")
            continue
        if argument.startswith("--"):
            key, value = argument[2:], remaining.pop(0) if remaining else None
            if value is None:
                raise BadArguments(f"{argument} has no value: give {key}=VALUE")
        elif "=" in argument:
            key, value = argument.split("=", 1)
        else:
            raise BadArguments(f"{argument!r} is not an override: give KEY=VALUE")
        overrides.append(_override(key, value))
    return overrides


def has_hydra_flag(arguments: Sequence[str]) -> bool:
    """Return whether a flag of Hydra's own is present, such as `--help` or `--cfg`."""
    flags, _ = split_hydra_flags(arguments)
    return not _HYDRA_FLAGS.isdisjoint(flag.partition("=")[0] for flag in flags)


def split_hydra_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split Hydra's own flags, with their values, from the arguments that override a key.

    The argument after `--KEY` is its value, even if it looks like a flag.
    """
    flags: list[str] = []
    others: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        key = argument.removeprefix("--")
        is_key = key in groups() or key in kinds() or ("." in key and _KEY.fullmatch(key))
        if argument == _NO_REUSE and (not remaining or remaining[0] not in _BOOLEANS):
            others.append(argument)
        elif argument == _NO_REUSE or (argument != key and is_key):
            others += [argument, *remaining[:1]]
            del remaining[:1]
        else:
            (others if _OVERRIDE.match(argument) else flags).append(argument)
    return flags, others


def for_hydra(overrides: Sequence[str]) -> list[str]:
    """Return overrides in a form that Hydra accepts.

    Hydra cannot change a missing entry of a dict, nor add one to a typed dict. So
    `registry.gate.bleu.min=30` becomes `++registry.gate={bleu: {min: 30}}`, which is merged.
    Raises BadArguments, with every problem in one message, for an unknown key or choice.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if problems := [problem for override in parsed for problem in _problems(override)]:
        raise BadArguments("\n".join(problems))
    return [_merge_entry(override) for override in overrides]


def swept_values(overrides: Sequence[str]) -> dict[str, str]:
    """Return the keys with several values, which a sweep takes, each with its text.

    Raises HydraException for a text that is not an override.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {
        override.key_or_group: text.partition("=")[2]
        for override, text in zip(parsed, overrides, strict=True)
        if override.is_sweep_override()
    }


def _override(key: str, value: str) -> str:
    if not _KEY.fullmatch(key):
        raise BadArguments(f"{key!r} is not a config key: use names such as generation.temperature")
    if "${" in value:
        raise BadArguments(f"{key}={value}: '${{' is not allowed on the command line; write it out")
    if value == "???":
        raise BadArguments(f"{key}=???: Hydra reads '???' as a missing value; give another one")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadArguments(f"{key}={value!r} is not UTF-8 text: give it in UTF-8")
    is_literal = kinds().get(key, Kind.value).is_literal
    is_expression = value == "null" or _QUOTED.fullmatch(value) if is_literal else True
    return f"{key}={value if is_expression and _parses(f'{key}={value}') else _quote(value)}"


def _parses(override: str) -> bool:
    if sum(override.count(bracket) for bracket in "[{(") > _MAX_BRACKETS:
        return False
    try:
        OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # ValueError for a number of thousands of digits
        return False
    return True


def _quote(value: str) -> str:
    # Hydra's grammar: a backslash escapes the quote, and only those before a quote are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"


def _merge_entry(override: str) -> str:
    key, _, value = override.partition("=")
    pattern = match_pattern(key)
    if pattern is None:
        return override
    parts = key.split(".")
    position = next(i for i, part in enumerate(pattern.split(".")) if part in ANY_NAMES)
    entry = value or "''"
    for part in reversed(parts[position:]):
        entry = f"{{{part}: {entry}}}"
    return f"++{'.'.join(parts[:position])}={entry}"


def _problems(override: Override) -> Iterator[str]:
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE:
        yield f"{override.input_line}: keys cannot be added or deleted, only changed"
    elif override.is_sweep_override():
        yield f"{override.input_line}: only a sweep takes several values; give one"
    elif key in groups():
        choices = groups()[key]
        choice = str(override.value())
        if choice not in choices:
            unknown = f"{key}={choice}: unknown.{did_you_mean(closest(choice, choices))}"
            yield f"{unknown} The choices of {key} are {', '.join(choices)}."
    elif key not in kinds() and match_pattern(key) is None:
        yield _unknown_key(key, [*groups(), *kinds()])
    elif kinds().get(key, Kind.value).is_list and not isinstance(override.value(), list):
        example = override.value() if isinstance(override.value(), str) else ""
        yield f"{override.input_line}: must be a list, give {key}=[{example}]"


def _unknown_key(key: str, valid: Sequence[str]) -> str:
    """Return the message for an unknown key: it lists the keys of the section, if that is known."""
    section = key.partition(".")[0]
    in_section = [name for name in valid if name.startswith(f"{section}.")]
    without_section = [name.rpartition(".")[2] for name in valid]
    suggestion = did_you_mean(closest(key, in_section or valid))
    if key in without_section or not suggestion:
        suggestion = _suggest_section(key, valid)
    unknown = f"{key}: unknown.{suggestion}"
    if in_section:
        return f"{unknown} In {section} the keys are {', '.join(sorted(in_section))}."
    sections = sorted({name.partition(".")[0] for name in valid})
    return f"{unknown} A key is, or begins with, one of {', '.join(sections)}."


def _suggest_section(key: str, valid: Sequence[str]) -> str:
    """Return the question that suggests a key without its section, empty if nothing is close."""
    close = closest(key, [name.rpartition(".")[2] for name in valid])
    return did_you_mean([name for name in valid if name.rpartition(".")[2] in close])
