"""Thinking models, served to the openai client: switched by template variables, and split."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from slmflow.pipeline.results import GenaiModel, TransformersModel
from tests.fixtures.thinking_model import OPENED, QUESTION, Thinking, ThinkingModel
from tests.serving.calls import call
from tests.serving.conftest import Server, serving

OFF = {"chat_template_kwargs": {"enable_thinking": False}}

# Both flavors of a model that opens the block itself, and of one whose prompt opens it with a
# special token of another name.
PLAIN, SPECIAL = Thinking(), Thinking(OPENED, "[THINK]", "[/THINK]", is_special=True)
SERVED = {
    "genai-plain": (GenaiModel, PLAIN),
    "genai-special": (GenaiModel, SPECIAL),
    "transformers-special": (TransformersModel, SPECIAL),
}


@pytest.fixture(scope="module", params=SERVED)
def served(
    request: pytest.FixtureRequest,
    thinking_model: Callable[[Thinking], ThinkingModel],
    experiment: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, ThinkingModel]]:
    flavor, kind = SERVED[request.param]
    model = thinking_model(kind)
    logged = model.log(flavor, experiment)
    folder = tmp_path_factory.mktemp("thinking")
    with serving(folder, f"serve.model_uri={logged.model_uri}") as server:
        yield server, model


@pytest.fixture
def server(served: tuple[Server, ThinkingModel]) -> Server:
    return served[0]


@pytest.fixture
def model(served: tuple[Server, ThinkingModel]) -> ThinkingModel:
    return served[1]


@pytest.fixture
def ask(server: Server) -> Callable[..., Any]:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    return lambda **options: client.chat.completions.create(
        model=name, **{"messages": QUESTION, **options}
    )


def reasoning_of(message: Any) -> str:
    return getattr(message, "reasoning_content", None) or ""


def test_answer_has_its_reasoning_apart(ask: Callable[..., Any], model: ThinkingModel) -> None:
    [choice] = ask().choices
    expected = model.answer(QUESTION)
    assert all(expected)
    assert (reasoning_of(choice.message), choice.message.content) == expected
    assert choice.finish_reason == "stop"


def test_variable_of_a_request_switches_thinking_off(
    ask: Callable[..., Any], model: ThinkingModel
) -> None:
    completion = ask(extra_body=OFF)
    [choice] = completion.choices
    reasoning, answer = model.answer(QUESTION, enable_thinking=False)
    assert (reasoning, choice.message.content) == ("", answer)
    assert not hasattr(choice.message, "reasoning_content")
    prompt = model.prompt(QUESTION, enable_thinking=False)
    assert completion.usage.prompt_tokens == len(prompt)


def test_reasoning_effort_switches_thinking(ask: Callable[..., Any]) -> None:
    assert ask(reasoning_effort="none").choices == ask(extra_body=OFF).choices
    assert ask(reasoning_effort="low").choices == ask().choices
    both = {**OFF, "reasoning_effort": "high"}  # what a request says itself goes first
    assert ask(extra_body=both).choices == ask(extra_body=OFF).choices


def test_stream_has_reasoning_before_the_answer(ask: Callable[..., Any]) -> None:
    message = ask().choices[0].message
    deltas = [chunk.choices[0].delta for chunk in ask(stream=True)]
    reasoning = [reasoning_of(delta) for delta in deltas]
    content = [delta.content or "" for delta in deltas]
    assert "".join(reasoning) == reasoning_of(message)
    assert "".join(content) == message.content
    assert sum(map(bool, reasoning)) > 1
    last_reasoning = max(i for i, piece in enumerate(reasoning) if piece)
    assert not any(content[: last_reasoning + 1])


def test_answer_cut_inside_the_block_is_empty(ask: Callable[..., Any]) -> None:
    [choice] = ask(max_tokens=4).choices
    assert choice.finish_reason == "length"
    assert choice.message.content == ""
    whole = reasoning_of(ask().choices[0].message)
    assert reasoning_of(choice.message)
    assert whole.startswith(reasoning_of(choice.message))


def test_stop_string_counts_in_the_answer_only(ask: Callable[..., Any]) -> None:
    plain = ask().choices[0].message
    assert "a" in reasoning_of(plain)
    assert "a" in plain.content
    [stopped] = ask(stop=["a"]).choices
    assert reasoning_of(stopped.message) == reasoning_of(plain)
    assert stopped.message.content == plain.content.partition("a")[0]
    assert stopped.finish_reason == "stop"


def test_reasoning_of_an_earlier_turn_reaches_the_template(
    ask: Callable[..., Any], model: ThinkingModel
) -> None:
    first = ask().choices[0].message
    turns = [*QUESTION, first.model_dump(exclude_none=True), *QUESTION]
    completion = ask(messages=turns)
    assert reasoning_of(first) in model.tokenizer.decode(model.prompt(turns))
    assert completion.usage.prompt_tokens == len(model.prompt(turns))
    message = completion.choices[0].message
    assert (reasoning_of(message), message.content) == model.answer(turns)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"chat_template_kwargs": {"enable_thinkin": 1}}, "enable_thinkin is not a variable of"),
        ({"chat_template_kwargs": {"messages": []}}, "messages is set by slmflow itself"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template is set by slmflow"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs=.1.: must be an object"),
        ({"chat_template_kwargs": {"enable_thinking": "a" * 10_000}}, "has 10,002 characters"),
        ({"enable_thinking": False}, "enable_thinking is a variable .* in chat_template_kwargs"),
    ],
)
def test_unusable_variable_is_rejected_by_name(
    ask: Callable[..., Any], body: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        ask(extra_body=body)


def test_text_completion_takes_no_variables(server: Server) -> None:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    with pytest.raises(openai.BadRequestError, match="chat_template_kwargs is not an option"):
        client.completions.create(model=name, prompt="a", extra_body=OFF)


def test_invocations_take_variables_or_reject_them(
    server: Server, model: ThinkingModel, request: pytest.FixtureRequest
) -> None:
    """MLflow's transformers flavor cannot take them; its server would drop them silently."""
    status, _, body = call(server, "POST", "/invocations", {"messages": QUESTION, **OFF})
    if "transformers" in request.node.name:
        assert status == 400
        assert "this model takes no chat_template_kwargs at /invocations" in body
        return
    assert status == 200
    reasoning, answer = model.answer(QUESTION, enable_thinking=False)
    assert f'"content": "{answer}"' in body
    assert "reasoning_content" not in body
    status, _, body = call(server, "POST", "/invocations", {"messages": QUESTION})
    reasoning, answer = model.answer(QUESTION)
    [completion] = json.loads(body)
    message = completion["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (answer, reasoning)
    wrong = {"messages": QUESTION, "chat_template_kwargs": {"enable_thinkin": 1}}
    status, _, body = call(server, "POST", "/invocations", wrong)
    assert (status, "enable_thinkin is not a variable" in body) == (400, True)
    turns = [*QUESTION, {"role": "assistant", "content": "a", "reasoning_content": "b"}, *QUESTION]
    status, _, body = call(server, "POST", "/invocations", {"messages": turns})
    assert (status, f'"prompt_tokens": {len(model.prompt(turns))}' in body) == (200, True)


def test_response_has_the_reasoning_as_an_item(server: Server, model: ThinkingModel) -> None:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    request: Any = {"model": name, "input": QUESTION}
    response = client.responses.create(**request)
    thought, message = response.output
    expected = model.answer(QUESTION)
    assert response.usage
    reasoning_tokens = response.usage.output_tokens_details.reasoning_tokens
    written = model.generate(QUESTION)
    assert model.kind.end in model.tokenizer.decode(written[:reasoning_tokens])
    assert model.kind.end not in model.tokenizer.decode(written[: reasoning_tokens - 1])
    assert (thought.content[0].text, message.content[0].text) == expected
    assert (thought.type, thought.summary) == ("reasoning", [])
    events = list(client.responses.create(**request, stream=True))
    streamed = [each.delta for each in events if each.type == "response.reasoning_text.delta"]
    assert "".join(streamed) == expected[0]
    final_thought, final_message = events[-1].response.output
    assert (final_thought.content[0].text, final_message.content[0].text) == expected


def test_response_summarizes_with_the_reasoning_itself(
    server: Server, model: ThinkingModel
) -> None:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    request: Any = {"model": name, "input": QUESTION, "reasoning": {"summary": "auto"}}
    thought, _ = client.responses.create(**request).output
    assert thought.summary[0].text == model.answer(QUESTION)[0]
    events = list(client.responses.create(**request, stream=True))
    streamed = [
        each.delta for each in events if each.type == "response.reasoning_summary_text.delta"
    ]
    assert "".join(streamed) == thought.summary[0].text


def test_reasoning_item_reaches_the_template(server: Server, model: ThinkingModel) -> None:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    first = client.responses.create(model=name, input=QUESTION)
    second = client.responses.create(model=name, input=[*QUESTION, *first.output, *QUESTION])
    reasoning, answer = model.answer(QUESTION)
    turn = {"role": "assistant", "content": answer, "reasoning_content": reasoning}
    assert second.usage
    assert second.usage.input_tokens == len(model.prompt([*QUESTION, turn, *QUESTION]))


def test_effort_none_switches_thinking_off(server: Server, model: ThinkingModel) -> None:
    client = server.client()
    [name] = [each.id for each in client.models.list()]
    response = client.responses.create(model=name, input=QUESTION, reasoning={"effort": "none"})
    assert response.output_text == model.answer(QUESTION, enable_thinking=False)[1]
    assert [item.type for item in response.output] == ["message"]
