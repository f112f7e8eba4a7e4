"""The grammar of required calls, as ONNX Runtime GenAI's guidance follows it."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnxruntime_genai as og
import pytest
from mlflow.exceptions import MlflowException
from tokenizers import AddedToken, Tokenizer

from slmflow.runtime.generation.guidance import Guidance, guide_json
from slmflow.runtime.tools import declarations
from slmflow.runtime.tools.call_plan import CallPlan
from slmflow.runtime.tools.calls import ToolCall, join_pieces
from slmflow.runtime.tools.formats import (
    CLOSED_LIST,
    HERMES,
    LLAMA,
    MISTRAL,
    ToolFormat,
    with_tokens,
)
from slmflow.runtime.tools.grammar import MAX_CALLS, guide_answer_or_calls, guide_calls
from slmflow.runtime.tools.parser import GuidedCallParser

PLACEHOLDERS = ("<|placeholder1|>", "<|placeholder2|>")

PLACES = ("here", 'th"ere', "é")
REFERRING = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/place"}, "days": {"type": "integer", "maximum": 9}},
    "required": ["at", "days"],
    "$defs": {"place": {"enum": list(PLACES)}},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "forecast", "parameters": REFERRING}},
    {"type": "function", "function": {"name": "nothing", "parameters": {"type": "object"}}},
]


def with_special_tags(onnx: Path, folder: Path, tags: dict[str, str]) -> Path:
    """Copy the model, with other texts for some of its special tokens."""
    shutil.copytree(onnx, folder)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    for token in tokenizer["added_tokens"]:
        if token["content"] in tags:
            token["content"] = tags[token["content"]]
    file.write_text(json.dumps(tokenizer))
    return folder


def complete_ids(folder: Path, guidance: Guidance) -> list[int]:
    """Return a guided completion, sampled by the runtime, without its end token."""
    model = og.Model(str(folder))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=500, do_sample=True, temperature=1.5, random_seed=1)
    params.set_guidance(guidance.kind, guidance.text)
    generator = og.Generator(model, params)
    generator.append_tokens([tokenizer.encode("Forecast?", add_special_tokens=False).ids])
    ids: list[int] = []
    while not generator.is_done():
        generator.generate_next_token()
        ids.append(int(generator.get_next_tokens()[0]))
    return ids[:-1]


def complete(folder: Path, guidance: Guidance) -> str:
    """Return the text of a guided completion."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text: str = tokenizer.decode(complete_ids(folder, guidance), skip_special_tokens=False)
    return text


def calls_in(text: str, format_: ToolFormat) -> tuple[ToolCall, ...]:
    return join_pieces(GuidedCallParser(format_).push(text).calls)


def check(calls: tuple[ToolCall, ...]) -> None:
    for call in calls:
        arguments = json.loads(call.arguments)
        if call.name == "nothing":
            assert arguments == {}
        else:
            assert arguments["at"] in PLACES
            assert arguments["days"] <= 9


def parse(choice: Any, parallel: bool | None = None) -> declarations.ToolRequest:
    request = declarations.parse(TOOLS, choice, parallel)
    assert request is not None
    return request


@pytest.mark.parametrize("format_", [HERMES, CLOSED_LIST, MISTRAL, LLAMA])
def test_calls_are_in_the_format_of_the_model(onnx: Path, format_: ToolFormat) -> None:
    named = {"type": "function", "function": {"name": "forecast"}}
    text = complete(onnx, guide_calls(parse(named), format_))
    [call] = calls_in(text, format_)
    check((call,))
    assert text == format_.write([(call.name, call.arguments)])


def test_several_calls_are_limited(onnx: Path) -> None:
    text = complete(onnx, guide_calls(parse("required"), HERMES))
    calls = calls_in(text, HERMES)
    check(calls)
    assert 1 <= len(calls) <= MAX_CALLS
    assert text == HERMES.write([(call.name, call.arguments) for call in calls])
    [call] = calls_in(complete(onnx, guide_calls(parse("required", False), HERMES)), HERMES)
    check((call,))


def test_special_tags_are_written_as_their_tokens(onnx: Path, tmp_path: Path) -> None:
    tags = dict(zip(PLACEHOLDERS, (CLOSED_LIST.start, CLOSED_LIST.end), strict=True))
    folder = with_special_tags(onnx, tmp_path / "model", tags)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    format_ = with_tokens(CLOSED_LIST, tokenizer)
    assert sorted(format_.special.values()) == sorted(tags.values())
    ids = complete_ids(folder, guide_calls(parse("required", False), format_))
    assert ids[0] == tokenizer.token_to_id(CLOSED_LIST.start)
    assert ids[-1] == tokenizer.token_to_id(CLOSED_LIST.end)
    text = tokenizer.decode(ids, skip_special_tokens=False)
    [call] = calls_in(text, format_)
    check((call,))


def test_answer_or_calls(onnx: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    answer = guide_json(schema, "response_format")
    text = complete(onnx, guide_answer_or_calls(answer, parse("auto", False), HERMES))
    if calls := calls_in(text, HERMES):
        check(calls)
    else:
        assert text == '{"a":1}'


@pytest.mark.parametrize("is_special", [True, False])
def test_ordinary_tags_of_sentencepiece_are_not_enforced(onnx: Path, is_special: bool) -> None:
    tokenizer = Tokenizer.from_file(str(onnx / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(HERMES.start, special=is_special, normalized=False)])
    format_ = with_tokens(HERMES, tokenizer)
    answer = guide_json({"type": "object"}, "response_format")
    if is_special:
        assert CallPlan(parse("required"), format_).guide(None)
        return
    with pytest.raises(MlflowException, match="use auto"):
        CallPlan(parse("required"), format_).guide(None)
    with pytest.raises(MlflowException, match="leave out one"):
        CallPlan(parse("auto"), format_).guide(answer)
