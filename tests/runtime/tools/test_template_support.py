"""Tools, calls and results in chat templates, compared with transformers' own rendering."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from transformers import PreTrainedTokenizerFast

from slmflow.flavors.pipeline_prompts import PipelinePromptEncoder
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder, validate_messages
from tests.conversion.architectures import BUNDLED
from tests.fixtures import tool_templates
from tests.fixtures.tool_templates import ARGUMENTS, QUESTION, RESULTS, TOOLS

IDS = ("call00001", "call00002")
NAMES = ("get_weather", "get_time")
PHI4_TOKENS = ("<|tool_call|>", "<|/tool_call|>", "<|tool_response|>", "<|tool|>", "<|/tool|>")


def model_folder(folder: Path, template: str, tokens: Sequence[str] = ()) -> Path:
    """Write the bundled tokenizer with a template, and with further special tokens."""
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(tokens)})
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def turns(calls: int, *, as_text: bool, content: str | None = None) -> list[dict[str, Any]]:
    """Return a conversation with calls and results, for OpenAI or for transformers."""
    made = [
        {
            "id": IDS[i],
            "type": "function",
            "function": {
                "name": NAMES[i],
                "arguments": json.dumps(ARGUMENTS[i]) if as_text else ARGUMENTS[i],
            },
        }
        for i in range(calls)
    ]
    results = [
        {"role": "tool", "tool_call_id": IDS[i], "content": RESULTS[i]} for i in range(calls)
    ]
    return [QUESTION, {"role": "assistant", "content": content, "tool_calls": made}, *results]


def expect_equal(folder: Path, ours: Any, theirs: Any, declared: Any, **variables: Any) -> None:
    """Check the token ids of both flavors' encoders."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(
        theirs, add_generation_prompt=True, return_dict=False, **variables
    )
    messages = validate_messages(ours)
    assert TemplatePromptEncoder(folder).encode_chat(messages, tools=declared) == expected
    assert PipelinePromptEncoder(tokenizer).encode_chat(messages, tools=declared) == expected


@pytest.mark.parametrize(("name", "most_calls"), [("HERMES", 2), ("LLAMA", 1), ("MISTRAL", 2)])
def test_token_ids_equal_those_of_transformers(tmp_path: Path, name: str, most_calls: int) -> None:
    folder = model_folder(tmp_path / "model", getattr(tool_templates, name))
    expect_equal(folder, [QUESTION], [QUESTION], TOOLS, tools=TOOLS)
    for calls in range(1, most_calls + 1):
        ours, theirs = turns(calls, as_text=True), turns(calls, as_text=False)
        expect_equal(folder, ours, theirs, TOOLS, tools=TOOLS)
        expect_equal(folder, ours, theirs, (), tools=None)


def test_text_beside_calls_is_rendered(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", tool_templates.HERMES)
    ours = turns(2, as_text=True, content="Let me look.")
    expect_equal(folder, ours, turns(2, as_text=False, content="Let me look."), (), tools=None)


def test_template_with_text_arguments_gets_them_as_sent(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", tool_templates.TEXT_ARGUMENTS)
    messages = turns(2, as_text=True)
    expect_equal(folder, messages, messages, (), tools=None)


def test_variable_of_another_name_gets_the_tools(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", tool_templates.XML_TOOLS)
    expect_equal(folder, [QUESTION], [QUESTION], TOOLS, xml_tools=TOOLS)


def test_tools_in_the_system_message(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", tool_templates.SYSTEM_TOOLS, PHI4_TOKENS)
    functions = json.dumps([tool["function"] for tool in TOOLS], ensure_ascii=False)
    system = {"role": "system", "content": "Be brief."}
    theirs = [{**system, "tools": functions}, QUESTION]
    expect_equal(folder, [system, QUESTION], theirs, TOOLS)
    usual = {"role": "system", "content": "You are a helpful assistant with some tools."}
    expect_equal(folder, [QUESTION], [{**usual, "tools": functions}, QUESTION], TOOLS)


@pytest.mark.parametrize(
    ("name", "tokens", "written", "role"),
    [
        (
            "XML_TOOLS",
            (),
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "unit": "C"}}\n'
            "</tool_call>",
            "tool",
        ),
        (
            "SYSTEM_TOOLS",
            PHI4_TOKENS,
            '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris", "unit": "C"}}]'
            "<|/tool_call|>",
            "tool_response",
        ),
    ],
)
def test_calls_that_a_template_leaves_out_are_written_as_text(
    tmp_path: Path, name: str, tokens: Sequence[str], written: str, role: str
) -> None:
    folder = model_folder(tmp_path / "model", getattr(tool_templates, name), tokens)
    *_, result = turns(1, as_text=True)
    theirs = [QUESTION, {"role": "assistant", "content": written}, {**result, "role": role}]
    expect_equal(folder, turns(1, as_text=True), theirs, ())


def test_own_template_for_tools_is_used_with_tools_only(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", tool_templates.NO_TOOLS)
    (folder / "additional_chat_templates").mkdir()
    own = folder / "additional_chat_templates" / "tool_use.jinja"
    own.write_text(tool_templates.HERMES)
    expect_equal(folder, [QUESTION], [QUESTION], TOOLS, tools=TOOLS)
    expect_equal(folder, [QUESTION], [QUESTION], ())
    ours, theirs = turns(2, as_text=True), turns(2, as_text=False)
    expect_equal(folder, ours, theirs, TOOLS, tools=TOOLS)


@pytest.mark.parametrize(
    ("name", "tokens", "start"),
    [
        ("HERMES", (), "<tool_call>"),
        ("LLAMA", ("<|python_tag|>",), "<|python_tag|>"),
        ("MISTRAL", (), "[TOOL_CALLS]"),
        ("XML_TOOLS", (), "<tool_call>"),
        ("SYSTEM_TOOLS", PHI4_TOKENS, "<|tool_call|>"),
        ("XML_CALLS", (), None),
        ("TEXT_ARGUMENTS", (), None),
        ("NO_TOOLS", ("<tool_call>",), None),
    ],
)
def test_format_is_that_of_the_model(
    tmp_path: Path, name: str, tokens: Sequence[str], start: str | None
) -> None:
    folder = model_folder(tmp_path / "model", getattr(tool_templates, name), tokens)
    format_ = TemplatePromptEncoder(folder).tools.format
    assert (format_ and format_.start) == start
    known = PreTrainedTokenizerFast.from_pretrained(folder).get_vocab()
    tags = {known[token]: token for token in tokens[:2]} if format_ else {}
    assert not format_ or format_.special == tags


@pytest.mark.parametrize(
    ("name", "expected"), [("HERMES", True), ("LLAMA", False), ("SYSTEM_TOOLS", True)]
)
def test_parallel_calls_need_a_template_that_renders_them(
    tmp_path: Path, name: str, expected: bool
) -> None:
    folder = model_folder(tmp_path / "model", getattr(tool_templates, name), PHI4_TOKENS)
    assert TemplatePromptEncoder(folder).tools.allows_parallel is expected


@pytest.mark.parametrize("name", ["NO_TOOLS", "TEXT_ARGUMENTS"])
def test_tools_are_rejected_by_templates_without_them(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "model", getattr(tool_templates, name))
    with pytest.raises(
        MlflowException, match=r"knows no tools: .*model\.template=FILE"
    ) as rejected:
        TemplatePromptEncoder(folder).encode_chat([QUESTION], tools=TOOLS)
    assert rejected.value.json_kwargs["param"] == "tools"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (tool_templates.NO_TOOLS, "knows no tool_calls"),
        ("{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}", "knows no"),
    ],
)
def test_messages_that_a_template_leaves_out_are_rejected(
    tmp_path: Path, template: str, message: str
) -> None:
    folder = model_folder(tmp_path / "model", template)
    call, result = turns(1, as_text=True)[1:]
    for last in (call, result):
        if "role" in template and last is result and "m.role !=" not in template:
            continue  # any role is rendered
        with pytest.raises(MlflowException, match=message) as rejected:
            TemplatePromptEncoder(folder).encode_chat(validate_messages([QUESTION, last]))
        assert rejected.value.json_kwargs["param"] == "messages"


def call_with(**fields: Any) -> list[dict[str, Any]]:
    function = {"name": "get_time", "arguments": "{}", **fields}
    return [{"role": "assistant", "tool_calls": [{"id": "a", "function": function}]}]


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
def test_missing_arguments_are_an_empty_object(arguments: Any) -> None:
    [message] = validate_messages(call_with(arguments=arguments))
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        (call_with(arguments='{"city": "Par'), "give a JSON object"),
        (call_with(arguments="[1]"), "give a JSON object"),
        (call_with(arguments="[" * 5000), "give a JSON object"),
        (call_with(arguments='{"a": NaN}'), "give a JSON object"),
        (call_with(name=3), "name=3 in tool_calls"),
        ([{"role": "assistant", "tool_calls": "all"}], "give a list"),
        ([{"role": "assistant", "tool_calls": [3]}], "3 in tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"type": "custom"}]}], "in tool_calls"),
        ([{**call_with()[0], "role": "user", "content": "A"}], "only assistant has it"),
        ([{**QUESTION, "tool_call_id": "a"}], "only tool has it"),
        ([{"role": "tool", "content": "A", "tool_call_id": 3}], "tool_call_id=3"),
        ([{"role": "tool", "tool_call_id": "a"}], "content=None"),
        ([{**call_with()[0], "content": 3}], "content=3"),
    ],
)
def test_invalid_calls_and_results_are_rejected(messages: Any, problem: str) -> None:
    with pytest.raises(MlflowException, match=problem) as rejected:
        validate_messages(messages)
    assert rejected.value.json_kwargs["param"] == "messages"
