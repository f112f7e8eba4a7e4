"""Variables that a request, or the config, gives to a chat template, such as `enable_thinking`.

Their values come from outside: only plain JSON of limited size reaches a template, and no variable
replaces one that the renderer itself sets.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

SPECIAL_TOKENS = tuple(f"{n}_token" for n in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
"""The special tokens that a template may use as variables."""

# The renderer sets the first four; the others are arguments of transformers' apply_chat_template.
_RESERVED = frozenset(
    {
        *("messages", "tools", "documents", "add_generation_prompt"),
        *("conversation", "conversations", "chat_template", "continue_final_message", "tokenize"),
        *("sanitize_control_tokens", "padding", "truncation", "max_length", "return_tensors"),
        *("return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "self", "loop"),
        *SPECIAL_TOKENS,
    }
)

# The longest values in use are a date, a list of languages or a few flags.
_MAX_CHARACTERS = 10_000
_MAX_DEPTH = 16
_MAX_VARIABLES = 32


def find_problems(variables: Mapping[Any, Any]) -> Iterator[str]:
    """Yield a message, without its subject, for each invalid name or value."""
    for name, value in variables.items():
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            yield f"{name!r:.100} is not the name of a variable: use letters, digits and '_'"
        elif name in _RESERVED:
            yield f"{name} is set by slmflow itself: leave it out"
        elif problem := find_json_problem(value, _MAX_DEPTH):
            yield f"{name}: {problem}"
        elif (length := len(json.dumps(value))) > _MAX_CHARACTERS:
            yield f"{name} has {length:,} characters: give at most {_MAX_CHARACTERS:,}"
    if len(variables) > _MAX_VARIABLES:
        yield f"{len(variables)} variables: give at most {_MAX_VARIABLES}"


def settable(used: Collection[str]) -> frozenset[str]:
    """Return those of the variables that a template uses which the renderer does not set."""
    return frozenset(used) - _RESERVED


def find_unused(variables: Mapping[str, Any], used: Collection[str]) -> Iterator[str]:
    """Yield a message, without its subject, for each variable that a template does not use."""
    usable = sorted(settable(used))
    known = f"it uses {', '.join(usable)}" if usable else "it uses no variables"
    for name in sorted(variables.keys() - usable):
        yield f"{name} is not a variable of the model's chat template: {known}"


def template_with_defaults(source: str, variables: Mapping[str, Any]) -> str:
    """Return a template that sets variables itself where the renderer is not given them.

    transformers' and our settings of Jinja remove the line break after each inserted block, so the
    template writes the same text as before.
    """
    return (
        "".join(
            f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"
            for name, value in variables.items()
        )
        + source
    )


def find_json_problem(value: Any, max_depth: int) -> str | None:
    """Return why a value from outside is no JSON, or too deep; None if nothing is wrong."""
    if _is_deeper(value, max_depth):
        return f"nested more than {max_depth} levels deep"
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        is_json = json.loads(text) == value
    except UnicodeEncodeError:
        return r"it has half a character, such as a lone \ud800"
    except (TypeError, ValueError):
        is_json = False
    if not is_json:
        return (
            f"{value!r:.100} is not JSON: give text, a finite number, true, false, null, or a list "
            "or an object of them"
        )
    return None


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether lists and objects are nested deeper than `depth`."""
    if not isinstance(value, list | tuple | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(each, depth - 1) for each in inner)


def _literal(value: Any) -> str:
    """Return a JSON value as Jinja writes it. Jinja's only other spelling is that of null."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        items = (f"{_literal(str(key))}: {_literal(each)}" for key, each in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False)
