"""Template variables, rendered as transformers renders them; hostile names and values."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from transformers.utils.chat_template_utils import render_jinja_template

from slmflow.runtime.prompts.template import ChatTemplate, template_variables
from slmflow.runtime.prompts.template_variables import (
    find_problems,
    find_unused,
    template_with_defaults,
)

TURN = [{"role": "user", "content": "Hi"}]

# Each with the variables that it uses besides those of the renderer.
TEMPLATES = {
    "{% if enable_thinking is defined and enable_thinking is false %}no{% endif %}": {
        "enable_thinking"
    },
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}": {
        "thinking"
    },
    "{{ bos_token }}{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}": set(),
    "{% set ns = namespace(a=1) %}{{ ns.a }}{{ range(2) | list }}{{ tools }}": set(),
    "{% macro write(x) %}{{ x }}{{ effort | default('low') }}{% endmacro %}{{ write(1) }}": {
        "effort"
    },
    "{% for each in languages or [] %}{{ each }}{{ strftime_now('%Y') }}{% endfor %}": {
        "languages"
    },
    "{% if add_generation_prompt %}{{ options.budget }}{% endif %}": {"options"},
    # As in the templates of Qwen 3 and Gemma 3: set in each branch, or in a loop.
    "{% for m in messages %}{% if m.role == 'x' %}{% set role = 'y' %}{% else %}"
    "{% set role = m.role %}{% endif %}{{ role }}{% set content = m.content %}"
    "{% if thinking %}{% set content = content + 'a' %}{% endif %}{{ content }}{% endfor %}": {
        "thinking"
    },
    "{% set text %}{{ tone }}{% endset %}{{ text }}{% set x = x | default(1) %}{{ x }}": {
        *("tone", "x")
    },
}


def template(folder: Path, source: str) -> ChatTemplate:
    (folder / "chat_template.jinja").write_text(source, "utf-8")
    return ChatTemplate(folder)


def render_with_transformers(source: str, **variables: Any) -> str:
    rendered, _ = render_jinja_template(
        [TURN], chat_template=source, add_generation_prompt=True, **variables
    )
    return rendered[0]


@pytest.mark.parametrize(("source", "expected"), TEMPLATES.items())
def test_variables_are_those_that_the_template_leaves_undefined(
    source: str, expected: set[str]
) -> None:
    used = template_variables(source)
    assert not list(find_unused(dict.fromkeys(expected), used))
    [problem] = find_unused({"no_such_thing": 1}, used)
    listed = f"it uses {', '.join(sorted(expected))}" if expected else "it uses no variables"
    assert problem == f"no_such_thing is not a variable of the model's chat template: {listed}"


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(value=_JSON)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_values_render_as_with_transformers(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    """Given with the request, and set by the template itself."""
    if list(find_problems({"value": value})):
        return
    source = "{{ value | tojson }}|{% if value is false %}off{% endif %}"
    expected = render_with_transformers(source, value=value)
    ours = template(tmp_path_factory.mktemp("template"), source)
    assert ours.render(TURN, {"value": value}) == expected
    assert render_with_transformers(template_with_defaults(source, {"value": value})) == expected


@pytest.mark.parametrize(
    "source",
    [
        "\n\n  {% if x %}\n  a\n  {% endif %}\nb",
        "  {{ x }}",
        "{%- if x %}a{% endif %}",
        "{# a comment #}\n{% set y = x %}{{ y }}",
        "{% macro m() %}{{ x }}{% endmacro %}{% for i in [1] %}{{ m() }}{{ x }}{% endfor %}",
    ],
)
def test_defaults_change_nothing_else(source: str) -> None:
    with_defaults = template_with_defaults(source, {"x": "on", "other": None})
    expected = render_with_transformers(source, x="on", other=None)
    assert render_with_transformers(with_defaults) == expected
    overridden = render_with_transformers(source, x="request")
    assert render_with_transformers(with_defaults, x="request") == overridden


def test_text_of_a_default_is_no_jinja() -> None:
    hostile = "'\" {{ 7 * 7 }} {% raw %} %}\n\\ \U0001f600 \x00"
    source = template_with_defaults("{{ x }}", {"x": hostile})
    assert render_with_transformers(source) == hostile


_DEEP: Any = []
for _ in range(2000):
    _DEEP = [_DEEP]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"messages": []}, "messages is set by slmflow itself"),
        ({"add_generation_prompt": False}, "add_generation_prompt is set by slmflow itself"),
        ({"bos_token": "x"}, "bos_token is set by slmflow itself"),
        ({"chat_template": "x"}, "chat_template is set by slmflow itself"),
        ({"": 1}, "'' is not the name of a variable"),
        ({"a b": 1}, "'a b' is not the name of a variable"),
        ({"é": 1}, "'é' is not the name of a variable"),
        ({1: 1}, "1 is not the name of a variable"),
        ({"x": math.nan}, "x: nan is not JSON"),
        ({"x": math.inf}, "x: inf is not JSON"),
        ({"x": {1: 2}}, "x: {1: 2} is not JSON"),
        ({"x": {"a": [object]}}, "is not JSON"),
        ({"x": _DEEP}, "x: nested more than 16 levels deep"),
        ({"x": "\ud800"}, "x: it has half a character"),
        ({"x": "a" * 10_000}, "x has 10,002 characters: give at most 10,000"),
        ({f"x{i}": 1 for i in range(33)}, "33 variables: give at most 32"),
    ],
)
def test_hostile_variables_are_rejected(variables: dict[Any, Any], problem: str) -> None:
    problems = list(find_problems(variables))
    assert len(problems) == 1
    assert problem in problems[0]


def test_limits_of_the_sandbox_hold_for_variables(tmp_path: Path) -> None:
    unbounded = template(
        tmp_path, "{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(MlflowException, match="more than 200,000 iterations"):
        unbounded.render(TURN, {"n": 90_000})
    wide = template(tmp_path, "{{ text * 1000 }}")
    with pytest.raises(MlflowException, match="of size"):
        wide.render(TURN, {"text": "a" * 9_000})
    private = template(tmp_path, "{{ value.__class__.__mro__ }}|{{ value['__class__'] }}")
    with pytest.raises(MlflowException, match="unsafe"):
        private.render(TURN, json.loads('{"value": {"a": 1}}'))
