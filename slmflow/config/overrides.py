"""From the command line to Hydra overrides, and the refusal of keys and choices that are unknown.

MLflow appends `--a.b c` for every `-P a.b=c` that MLproject does not declare. `from_arguments`
turns those pairs into the override `a.b=c` and leaves overrides given by hand as they are.
"""

import difflib
import re
from collections.abc import Container, Iterator, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from slmflow.errors import BadArguments

ANY_NAME = "<column>"
"""The part of a valid key that stands for any name, as in `registry.gate.<column>.min`."""

_HYDRA_FLAGS = frozenset({"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"})
_OVERRIDE = re.compile(r"[^-=][^=]*=")
_QUOTED = re.compile(r"""(['"])(\\.|(?!\1)[^\\])*\1""", re.DOTALL)
_KEY = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*", re.ASCII | re.IGNORECASE)

# No key takes anything that is nested; Hydra's parser and OmegaConf recurse where a value is.
_MOST_BRACKETS = 50


def from_arguments(arguments: Sequence[str], texts: Container[str] = ()) -> list[str]:
    """Return the Hydra overrides that a step's arguments stand for.

    `["model=tiny_phi3", "--generation.temperature", "0.2"]` gives
    `["model=tiny_phi3", "generation.temperature=0.2"]`. A value that is no Hydra expression is
    quoted, so that any text passes through as plain text. So is every value of a key in `texts`,
    but for one that is quoted already, and `null`. Raises BadArguments.
    """
    rest = iter(arguments)
    overrides = []
    for argument in rest:
        if argument.startswith("--"):
            key, value = argument[2:], next(rest, None)
            if value is None:
                raise BadArguments(f"{argument} has no value: give {key}=VALUE")
        elif "=" in argument:
            key, value = argument.split("=", 1)
        else:
            raise BadArguments(f"{argument!r} is not an override: give KEY=VALUE")
        overrides.append(_override(key, value, is_text=key in texts))
    return overrides


def asks_hydra(arguments: Sequence[str]) -> bool:
    """Return whether Hydra itself is asked something: its help, or to print the config."""
    return not _HYDRA_FLAGS.isdisjoint(argument.partition("=")[0] for argument in arguments)


def parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return of arguments that ask Hydra something its own flags, and the overrides."""
    given = [argument for argument in arguments if _OVERRIDE.match(argument)]
    return [argument for argument in arguments if argument not in given], given


def check(
    overrides: Sequence[str],
    groups: Mapping[str, list[str]],
    keys: list[str],
    lists: Container[str] = (),
) -> None:
    """Raise BadArguments for an override whose key, or choice in a group, is not among these.

    `groups` maps each Hydra group to its choices, `keys` lists all other keys (with `ANY_NAME` for
    a part that may be any), `lists` those of them that take a list only.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    problems = [
        problem for override in parsed for problem in _problems(override, groups, keys, lists)
    ]
    if problems:
        raise BadArguments("\n".join(problems))


def did_you_mean(given: str, valid: Sequence[str]) -> str:
    """Return the question that suggests the closest of the valid names, empty if none is close."""
    close = difflib.get_close_matches(given, valid, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def several(overrides: Sequence[str]) -> dict[str, str]:
    """Return the keys that are given several values, for a sweep, with these as they are written.

    Raises HydraException for what is no override.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {
        override.key_or_group: text.partition("=")[2]
        for override, text in zip(parsed, overrides, strict=True)
        if override.is_sweep_override()
    }


def for_hydra(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return overrides as Hydra takes them: those with an `ANY_NAME` as a dict that is merged.

    `registry.gate.bleu.min=30` gives `++registry.gate={bleu: {min: 30}}`: Hydra cannot change an
    entry that is not there, nor add one to a typed dict.
    """
    return [_merged(override, keys) for override in overrides]


def _merged(override: str, keys: Sequence[str]) -> str:
    key, _, value = override.partition("=")
    known = _with_any_name(key, keys)
    if known is None:
        return override
    parts, at = key.split("."), known.index(ANY_NAME)
    entry = value or "''"
    for part in reversed(parts[at:]):
        entry = f"{{{part}: {entry}}}"
    return f"++{'.'.join(parts[:at])}={entry}"


def _with_any_name(key: str, keys: Sequence[str]) -> list[str] | None:
    """Return the parts of the valid key with an `ANY_NAME` that a key is, if it is one."""
    parts = key.split(".")
    patterns = (known.split(".") for known in keys if ANY_NAME in known)
    fitting = (
        pattern
        for pattern in patterns
        if len(parts) == len(pattern)
        and all(known in (part, ANY_NAME) for part, known in zip(parts, pattern, strict=True))
    )
    return next(fitting, None)


def _override(key: str, value: str, *, is_text: bool) -> str:
    if not _KEY.fullmatch(key):
        raise BadArguments(f"{key!r} is not a config key: use names such as generation.temperature")
    if "${" in value:
        raise BadArguments(f"{key}={value}: '${{' is not taken from the command line; write it out")
    if value == "???":
        raise BadArguments(f"{key}=???: Hydra takes '???' for a value that is missing; give one")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadArguments(f"{key}={value!r} is not UTF-8 text: give it in UTF-8")
    as_it_is = value == "null" or _QUOTED.fullmatch(value) if is_text else True
    return f"{key}={value if as_it_is and _parses(f'{key}={value}') else _quoted(value)}"


def _parses(override: str) -> bool:
    if sum(override.count(bracket) for bracket in "[{(") > _MOST_BRACKETS:
        return False
    try:
        OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # the latter for a number of thousands of digits
        return False
    return True


def _quoted(value: str) -> str:
    # Hydra's grammar: a backslash escapes the quote, and only those before a quote are doubled.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"'{escaped}'"


def _problems(
    override: Override,
    groups: Mapping[str, list[str]],
    keys: list[str],
    lists: Container[str],
) -> Iterator[str]:
    key = override.key_or_group
    if override.type is not OverrideType.CHANGE:
        yield f"{override.input_line}: keys cannot be added or deleted, only changed"
    elif override.is_sweep_override():
        yield f"{override.input_line}: several values at once are for a sweep; give one"
    elif key in groups:
        choice = str(override.value())
        if choice not in groups[key]:
            unknown = f"{key}={choice}: unknown.{did_you_mean(choice, groups[key])}"
            yield f"{unknown} Here {key} can be {', '.join(groups[key])}."
    elif key not in keys and _with_any_name(key, keys) is None:
        yield _unknown_key(key, [*groups, *keys])
    elif key in lists and not isinstance(override.value(), list):
        example = override.value() if isinstance(override.value(), str) else ""
        yield f"{override.input_line}: a list is wanted, give {key}=[{example}]"


def _unknown_key(key: str, valid: Sequence[str]) -> str:
    """Return what to say of an unknown key: the valid ones are those of its section, if any is."""
    section = key.partition(".")[0]
    near = [known for known in valid if known.startswith(f"{section}.")]
    suggested = did_you_mean(key, near or valid) or _by_last_part(key, valid)
    unknown = f"{key}: unknown.{suggested}"
    if near:
        return f"{unknown} In {section} the keys are {', '.join(sorted(near))}."
    sections = sorted({known.partition(".")[0] for known in valid})
    return f"{unknown} A key is, or begins with, one of {', '.join(sections)}."


def _by_last_part(key: str, valid: Sequence[str]) -> str:
    """Return the question that suggests what may lack its section, empty if nothing is close."""
    close = difflib.get_close_matches(key, [known.rpartition(".")[2] for known in valid], n=1)
    whole = [known for known in valid if known.rpartition(".")[2] in close]
    return f" Did you mean {' or '.join(whole)}?" if whole else ""
