"""Tool calls in texts of each format, split at every place."""

import json
from collections.abc import Iterator

import pytest

from slmflow.runtime.tools.calls import ToolCall, join_pieces
from slmflow.runtime.tools.formats import (
    CLOSED_LIST,
    HERMES,
    LLAMA,
    MISTRAL,
    OPEN_LIST,
    ToolFormat,
)
from slmflow.runtime.tools.parser import FreeCallParser, GuidedCallParser, ToolCallParser

NAMES = ("get_weather", "get_time")
PARIS, NOTHING = '{"city": "Paris"}', "{}"
# With every character that a parser might stumble over.
HARD = json.dumps({"a": '}]{"\\</tool_call>; ', "b": [{"c": "é\n<tool_call>"}], "d": -1.5e3})
FORMATS = {
    "hermes": HERMES,
    "phi4": CLOSED_LIST,
    "granite": OPEN_LIST,
    "mistral": MISTRAL,
    "llama": LLAMA,
}


def chunks(text: str) -> Iterator[list[str]]:
    """Yield a text in pieces: by character, whole, and cut once at each place."""
    yield list(text)
    for cut in range(len(text)):
        yield [text[:cut], text[cut:]]


def read(parser: ToolCallParser, pieces: list[str]) -> tuple[str, tuple[ToolCall, ...]]:
    parsed = [*(parser.push(piece) for piece in pieces), parser.flush()]
    calls = join_pieces(piece for each in parsed for piece in each.calls)
    return "".join(each.text for each in parsed), calls


def content_and_calls(
    format_: ToolFormat, text: str, *, parallel: bool = True
) -> tuple[str, list[tuple[str, str]]]:
    """Return what is found in a text, which is the same however it is cut."""
    results = []
    for pieces in chunks(text):
        content, calls = read(FreeCallParser(format_, NAMES, parallel), pieces)
        assert len({call.id for call in calls}) == len(calls)
        results.append((content, [(call.name, call.arguments) for call in calls]))
    assert all(result == results[0] for result in results)
    return results[0]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("arguments", [PARIS, NOTHING, HARD])
def test_calls_are_found_as_each_format_writes_them(name: str, arguments: str) -> None:
    format_ = FORMATS[name]
    same = json.dumps(json.loads(arguments), ensure_ascii=False)
    one = [("get_weather", arguments)]
    assert content_and_calls(format_, format_.write(one)) == ("", [("get_weather", same)])
    two = [*one, ("get_time", NOTHING)]
    expected = [("get_weather", same), ("get_time", "{}")]
    assert content_and_calls(format_, format_.write(two)) == ("", expected)
    assert content_and_calls(format_, format_.write(two), parallel=False) == ("", expected[:1])


@pytest.mark.parametrize("name", FORMATS)
def test_text_without_calls_stays_as_it_is(name: str) -> None:
    for text in ("", "Hello.", "Line\n\n- a < b <tool\n ", 'In JSON: {"name": "get_weather"}'):
        assert content_and_calls(FORMATS[name], text) == (text, [])


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"llama"}))
def test_text_before_a_call_is_content(name: str) -> None:
    call = FORMATS[name].write([("get_weather", PARIS)])
    content, calls = content_and_calls(FORMATS[name], f"Let me look.\n\n{call}")
    assert (content, calls) == ("Let me look.", [("get_weather", PARIS)])


def test_text_after_calls_is_content() -> None:
    call = HERMES.write([("get_time", NOTHING)])
    assert content_and_calls(HERMES, f"A \n{call}\n B {call}\n")[0] == "AB"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nget_weather\n</tool_call>",
        '<tool_call>\n{"name": "rm_rf", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": ["get_weather"]}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {"a": NaN}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {"a": 1e999}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {"a": "\\ud800"}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather" "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {}}}\n</tool_call>',
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par',
        "<tool_call>\n[1, 2]\n</tool_call>",
        "<tool_call>",
        "<tool_call>" + "[" * 2000 + "]" * 2000 + "</tool_call>",
    ],
)
def test_malformed_calls_stay_text(text: str) -> None:
    for pieces in ([text], list(text)):
        content, calls = read(FreeCallParser(HERMES, NAMES, True), pieces)
        assert (content, calls) == (text, ())


def test_call_after_a_malformed_one_is_found() -> None:
    good = HERMES.write([("get_weather", PARIS)])
    content, calls = content_and_calls(HERMES, f"<tool_call>oops</tool_call>\n{good}")
    assert content == "<tool_call>oops</tool_call>"
    assert calls == [("get_weather", PARIS)]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}',
        '<tool_call>{"arguments": {"city":"Paris"}, "name": "get_weather"}</tool_call>',
        '<tool_call>\n{"name": "get_weather", "parameters": {"city": "Paris"}}\n</tool_call>',
    ],
)
def test_small_deviations_are_calls_all_the_same(text: str) -> None:
    assert content_and_calls(HERMES, text) == ("", [("get_weather", PARIS)])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        '\n{"name": "get_weather", "parameters": {"city": "Paris"}}\n',
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}',
        '<|python_tag|>{"name": "get_weather", "arguments": {"city": "Paris"}};',
    ],
)
def test_llama_calls_without_or_with_its_tag(text: str) -> None:
    assert content_and_calls(LLAMA, text) == ("", [("get_weather", PARIS)])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Paris", "parameters": {}}',
        '{"answer": 42}',
        '{"name": "get_weather", "parameters": {}} is how to call it.',
        "{not JSON",
    ],
)
def test_other_json_of_llama_is_text(text: str) -> None:
    assert content_and_calls(LLAMA, text) == (text, [])


def test_text_is_not_held_back_without_reason() -> None:
    parser = FreeCallParser(HERMES, NAMES, True)
    assert [parser.push(piece).text for piece in ("It", " is", " <", "b>")] == [
        *("It", " is", "", " <b>")
    ]
    assert parser.held_length == 0
    parser.push("<tool_call>{")
    assert parser.held_length == len("<tool_call>{")


def test_completion_may_end_after_the_only_call() -> None:
    parser = FreeCallParser(HERMES, NAMES, parallel=False)
    parser.push(HERMES.write([("get_time", NOTHING)]))
    assert parser.is_done
    parser = FreeCallParser(HERMES, NAMES, parallel=True)
    parser.push(HERMES.write([("get_time", NOTHING)]))
    assert not parser.is_done


@pytest.mark.parametrize("name", FORMATS)
def test_guided_calls_stream_their_arguments(name: str) -> None:
    text = FORMATS[name].write([("get_weather", HARD), ("get_time", NOTHING)])
    for pieces in chunks(text):
        content, calls = read(GuidedCallParser(FORMATS[name]), pieces)
        assert content == ""
        assert [(c.name, c.arguments) for c in calls] == [
            *(("get_weather", HARD), ("get_time", NOTHING))
        ]
    parser = GuidedCallParser(FORMATS[name])
    parsed = [piece for character in text for piece in parser.push(character).calls]
    assert [piece.arguments for piece in parsed if piece.index == 0] == ["", *HARD]


def test_cut_call_of_a_guided_completion_is_partial() -> None:
    text = HERMES.write([("get_weather", PARIS)])
    _, calls = read(GuidedCallParser(HERMES), [text[: text.index("Paris") + 3]])
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", '{"city": "Par')]


def test_ids_have_the_form_of_the_model() -> None:
    for format_, length in ((HERMES, len("call_") + 24), (MISTRAL, 9)):
        _, [call] = read(
            FreeCallParser(format_, NAMES, True), [format_.write([("get_time", NOTHING)])]
        )
        assert len(call.id) == length
        assert call.id.removeprefix("call_").isalnum()
