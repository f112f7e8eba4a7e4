"""Tool calls with the openai client: called freely, required, named, streamed and answered."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from slmflow.pipeline.results import GenaiModel, TransformersModel
from tests.fixtures.thinking_model import QUESTION, ThinkingModel
from tests.fixtures.tool_model import CALLING, TOOLS, expected_call
from tests.serving.calls import call
from tests.serving.conftest import Server, serving

Ask = Callable[..., Any]

NAMED = {"type": "function", "function": {"name": "get_capital"}}


@pytest.fixture(scope="module")
def model(thinking_model: Callable[[Any], ThinkingModel]) -> ThinkingModel:
    return thinking_model(CALLING)


def serve(
    flavor: type[Any], model: ThinkingModel, experiment: str, factory: pytest.TempPathFactory
) -> Iterator[Server]:
    logged = model.log(flavor, experiment)
    folder = factory.mktemp("tools")
    with serving(folder, f"serve.model_uri={logged.model_uri}") as server:
        yield server


@pytest.fixture(scope="module")
def genai(
    model: ThinkingModel, experiment: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    yield from serve(GenaiModel, model, experiment, tmp_path_factory)


@pytest.fixture(scope="module")
def torch(
    model: ThinkingModel, experiment: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    yield from serve(TransformersModel, model, experiment, tmp_path_factory)


def asking(server: Server) -> Ask:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    return lambda **options: client.chat.completions.create(
        model=name, **{"messages": QUESTION, "tools": TOOLS, **options}
    )


@pytest.fixture(params=["genai", "torch"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask a server of either flavor."""
    return asking(request.getfixturevalue(request.param))


@pytest.fixture
def ask_genai(genai: Server) -> Ask:
    return asking(genai)


def generated(model: ThinkingModel, messages: Any = QUESTION, tools: Any = TOOLS) -> str:
    """Return what transformers generates."""
    text: str = model.tokenizer.decode(model.generate(messages, tools=tools))
    return text.removesuffix("<|end|>")


def test_free_call_is_that_of_transformers(ask: Ask, model: ThinkingModel) -> None:
    [choice] = ask().choices
    written = generated(model)
    [made] = choice.message.tool_calls
    assert {"name": made.function.name, "arguments": made.function.arguments} == expected_call(
        written
    )
    assert made.id.startswith("call_")
    assert made.type == "function"
    assert choice.message.content == written.partition(CALLING.end)[2].strip()
    assert choice.finish_reason == "tool_calls"


def test_single_call_ends_the_completion(ask: Ask) -> None:
    [choice] = ask(parallel_tool_calls=False).choices
    assert len(choice.message.tool_calls) == 1
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


def test_tools_reach_the_template(ask: Ask, model: ThinkingModel) -> None:
    with_tools = model.prompt(QUESTION, tools=TOOLS)
    assert ask().usage.prompt_tokens == len(with_tools)
    without = model.prompt(QUESTION)
    assert ask(tool_choice="none").usage.prompt_tokens == len(without)
    assert len(with_tools) > len(without)


@pytest.mark.parametrize("options", [{"tool_choice": "none"}, {"tools": []}, {"tools": TOOLS[1:]}])
def test_call_of_no_declared_tool_stays_text(ask: Ask, options: dict[str, Any]) -> None:
    [choice] = ask(**options).choices
    assert choice.message.tool_calls is None
    assert choice.message.content.startswith('<tool_call>\n{"name": "get_capital"')
    assert choice.finish_reason == "stop"


def test_results_in_the_history_reach_the_template(ask: Ask, model: ThinkingModel) -> None:
    [choice] = ask(parallel_tool_calls=False).choices
    [made] = choice.message.tool_calls
    result = {"role": "tool", "tool_call_id": made.id, "content": "Paris"}
    answered = ask(messages=[*QUESTION, choice.message, result])
    function = {"name": made.function.name, "arguments": json.loads(made.function.arguments)}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    theirs = [*QUESTION, turn, result]
    assert answered.usage.prompt_tokens == len(model.prompt(theirs, tools=TOOLS))


def test_streamed_call_equals_the_whole_one(ask: Ask, model: ThinkingModel) -> None:
    chunks = list(ask(stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or []]
    assert [piece.index for piece in pieces] == [0] * len(pieces)
    assert pieces[0].id.startswith("call_")
    assert (pieces[0].type, pieces[0].function.arguments) == ("function", "")
    assert all(piece.id is None and piece.function.name is None for piece in pieces[1:])
    arguments = "".join(piece.function.arguments for piece in pieces)
    made = {"name": pieces[0].function.name, "arguments": arguments}
    assert made == expected_call(generated(model))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def check_arguments(text: str) -> None:
    arguments = json.loads(text)
    assert arguments.keys() == {"about", "kind"}
    assert isinstance(arguments["about"], str)
    assert arguments["kind"] in ("city", "town")


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 1.5, "seed": 1}, {"temperature": 1.5, "seed": 2}, {"max_tokens": 100}],
)
def test_named_tool_is_called_as_its_schema_says(ask_genai: Ask, options: Any) -> None:
    [choice] = ask_genai(tool_choice=NAMED, **options).choices
    [made] = choice.message.tool_calls
    assert made.function.name == "get_capital"
    check_arguments(made.function.arguments)
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize("parallel", [True, False])
def test_required_call_is_of_a_declared_tool(ask_genai: Ask, parallel: bool) -> None:
    [choice] = ask_genai(
        tool_choice="required", parallel_tool_calls=parallel, max_tokens=300
    ).choices
    made = choice.message.tool_calls
    assert len(made) >= 1 if parallel else len(made) == 1
    for each in made:
        if each.function.name == "get_time":
            assert json.loads(each.function.arguments) == {}
        else:
            check_arguments(each.function.arguments)
    assert choice.finish_reason == "tool_calls"


def test_stream_helper_of_the_client_accumulates_calls(genai: Server) -> None:
    client = genai.client()
    [name] = [each.id for each in client.models.list()]
    options: Any = {"messages": QUESTION, "tools": TOOLS, "tool_choice": NAMED}
    with client.chat.completions.stream(model=name, **options) as stream:
        events = [event.type for event in stream]
        [choice] = stream.get_final_completion().choices
    assert events.count("tool_calls.function.arguments.delta") > 1
    [made] = choice.message.tool_calls or []
    check_arguments(made.function.arguments)
    whole = client.chat.completions.create(model=name, **options).choices[0]
    assert made.function.arguments == whole.message.tool_calls[0].function.arguments


def test_required_call_is_rejected_without_guidance(torch: Server) -> None:
    for choice in ("required", NAMED):
        with pytest.raises(openai.BadRequestError) as rejected:
            asking(torch)(tool_choice=choice)
        assert rejected.value.param == "tool_choice"
        assert "not supported by this flavor" in rejected.value.message


def test_model_without_tools_rejects_them_by_name(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="knows no tools") as rejected:
        asking(server)()
    assert rejected.value.param == "tools"
    assert asking(server)(tool_choice="none").choices[0].message.content


def test_older_model_must_be_logged_again_for_tools(older_server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="log the model again") as rejected:
        asking(older_server)()
    assert rejected.value.param == "tools"
    assert asking(older_server)(tool_choice="none").choices[0].message.content


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool_choice"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"messages": [{"role": "tool", "content": "A", "tool_calls": [3]}]}, "messages"),
    ],
)
def test_invalid_values_are_rejected_by_name(ask: Ask, options: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as rejected:
        ask(**options)
    assert rejected.value.param == param


def test_schema_that_the_runtime_does_not_know_is_rejected(ask_genai: Ask) -> None:
    function = {"name": "odd", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}
    with pytest.raises(openai.BadRequestError) as rejected:
        ask_genai(tools=[{"type": "function", "function": function}], tool_choice="required")
    assert rejected.value.param == "tools"


def test_tools_at_invocations_of_mlflow_s_own_flavor_are_rejected(torch: Server) -> None:
    """They would not reach the template."""
    body = {"messages": QUESTION, "tools": TOOLS}
    status, _, text = call(torch, "POST", "/invocations", body)
    assert (status, "tools" in text) == (400, True)


def test_calls_at_invocations(genai: Server) -> None:
    body = {"messages": QUESTION, "tools": TOOLS, "tool_choice": NAMED}
    status, _, text = call(genai, "POST", "/invocations", body)
    assert status == 200
    [completion] = json.loads(text)
    [made] = completion["choices"][0]["message"]["tool_calls"]
    check_arguments(made["function"]["arguments"])


# The same tools as /v1/responses takes them.
FLAT_TOOLS = [{"type": "function", **tool["function"]} for tool in TOOLS]
FLAT_NAMED = {"type": "function", "name": "get_capital"}


@pytest.fixture(params=["genai", "torch"])
def respond(request: pytest.FixtureRequest) -> Ask:
    """Ask a server of either flavor for a response."""
    return responding(request.getfixturevalue(request.param))


def responding(server: Server) -> Ask:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    return lambda **options: client.responses.create(
        model=name, **{"input": QUESTION, "tools": FLAT_TOOLS, **options}
    )


def test_response_has_the_calls_of_a_chat(respond: Ask, model: ThinkingModel) -> None:
    response = respond()
    message, made = response.output
    written = generated(model)
    assert made.type == "function_call"
    assert {"name": made.name, "arguments": made.arguments} == expected_call(written)
    assert made.call_id.startswith("call_")
    assert message.content[0].text.strip() == written.partition(CALLING.end)[2].strip()
    assert response.status == "completed"
    assert response.usage.input_tokens == len(model.prompt(QUESTION, tools=TOOLS))


def test_streamed_response_equals_the_whole_one(respond: Ask) -> None:
    events = list(respond(stream=True))
    final = events[-1].response
    assert [events[-1].type, final.status] == ["response.completed", "completed"]
    whole = respond()
    made, _ = final.output  # in the order in which they were generated
    assert made.arguments == whole.output[1].arguments
    assert final.output_text.strip() == whole.output_text.strip()
    deltas = [each for each in events if each.type == "response.function_call_arguments.delta"]
    assert "".join(each.delta for each in deltas) == made.arguments
    assert {each.item_id for each in deltas} == {made.id}
    [done] = [each for each in events if each.type == "response.function_call_arguments.done"]
    assert (done.arguments, done.name) == (made.arguments, made.name)
    added = [each for each in events if each.type == "response.output_item.added"]
    assert [each.output_index for each in added] == [0, 1]
    assert added[0].item.arguments == ""


def test_results_in_the_input_reach_the_template(respond: Ask, model: ThinkingModel) -> None:
    first = respond(parallel_tool_calls=False)
    [made] = first.output
    result = {"type": "function_call_output", "call_id": made.call_id, "output": "Paris"}
    second = respond(input=[*QUESTION, *first.output, result])
    function = {"name": made.name, "arguments": json.loads(made.arguments)}
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    theirs = [*QUESTION, turn, {"role": "tool", "content": "Paris"}]
    assert second.usage.input_tokens == len(model.prompt(theirs, tools=TOOLS))


def test_response_calls_the_named_tool(genai: Server) -> None:
    [made] = responding(genai)(tool_choice=FLAT_NAMED).output
    assert made.name == "get_capital"
    check_arguments(made.arguments)
    client = genai.client()
    [name] = [each.id for each in client.models.list()]
    options: Any = {"input": QUESTION, "tools": FLAT_TOOLS, "tool_choice": FLAT_NAMED}
    with client.responses.stream(model=name, **options) as stream:
        snapshots = [
            each.snapshot
            for each in stream
            if each.type == "response.function_call_arguments.delta"
        ]
        [streamed] = stream.get_final_response().output
    assert snapshots[-1] == streamed.arguments == made.arguments


def test_response_rejects_tools_of_the_provider(genai: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="web_search") as rejected:
        responding(genai)(tools=[{"type": "web_search"}])
    assert rejected.value.param == "tools"


def test_tokens_of_tools_equal_transformers(genai: Server, model: ThinkingModel) -> None:
    status, _, text = call(genai, "POST", "/tokenize", {"messages": QUESTION, "tools": TOOLS})
    assert status == 200
    assert json.loads(text)["tokens"] == model.prompt(QUESTION, tools=TOOLS)
