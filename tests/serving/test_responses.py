"""The openai client against /v1/responses."""

import json
from typing import Any, Literal

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from slmflow.serving.errors import RequestError
from slmflow.serving.responses_api import requests
from slmflow.serving.responses_api.format import ResponsesFormat
from tests.fixtures.bundled_model import Reference
from tests.serving.calls import call
from tests.serving.conftest import Server

ASKED = "What is the capital of Japan?"
QUESTION = [{"role": "user", "content": ASKED}]
NAMES = {"server": "tiny_phi3", "older_server": "tiny_phi3", "torch_server": "transformers"}


class Place(BaseModel):
    kind: Literal["city", "country"]
    is_capital: bool


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.client()


@pytest.mark.parametrize("flavor", NAMES)
def test_answer_equals_transformers(
    flavor: str, request: pytest.FixtureRequest, reference: Reference
) -> None:
    client: OpenAI = request.getfixturevalue(flavor).client()
    ids = reference.generate(QUESTION, 48)

    response = client.responses.create(model=NAMES[flavor], input=ASKED)

    assert response.output_text == reference.text(ids)
    assert response.status == "completed"
    assert response.usage
    assert response.usage.input_tokens == len(reference.prompt(QUESTION))
    assert response.usage.output_tokens == len(ids)
    assert response.usage.total_tokens == len(reference.prompt(QUESTION)) + len(ids)
    [message] = response.output
    assert (message.type, message.status) == ("message", "completed")
    stream = client.responses.create(model=NAMES[flavor], input=ASKED, stream=True)
    pieces = [each.delta for each in stream if each.type == "response.output_text.delta"]
    assert "".join(pieces) == response.output_text
    assert len(pieces) > 1


def test_stream_has_the_events_of_openai(client: OpenAI) -> None:
    events = list(client.responses.create(model="tiny_phi3", input=ASKED, stream=True))

    kinds = [each.type for each in events]
    pieces = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * pieces,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [each.sequence_number for each in events] == list(range(len(events)))
    created, completed = events[0].response, events[-1].response
    assert (created.status, created.output) == ("in_progress", [])
    whole = client.responses.create(model="tiny_phi3", input=ASKED)
    assert without_ids(completed) == without_ids(whole)
    [item] = completed.output
    assert {each.item_id for each in events if hasattr(each, "item_id")} == {item.id}
    text_done, part_done, item_done = events[-4:-1]
    assert text_done.text == part_done.part.text == completed.output_text
    assert item_done.item == item


def without_ids(response: Response) -> Any:
    """Return a response without what is new in each."""
    fields = response.model_dump(exclude={"id", "created_at"})
    for item in fields["output"]:
        del item["id"]
    return fields


def test_stream_helper_collects_the_response(client: OpenAI) -> None:
    whole = client.responses.create(model="tiny_phi3", input=ASKED)
    with client.responses.stream(model="tiny_phi3", input=ASKED) as stream:
        snapshots = [each.snapshot for each in stream if each.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == final.output_text == whole.output_text


def test_parsed_answer_has_the_fields_of_its_class(client: OpenAI) -> None:
    options: Any = {"model": "tiny_phi3", "input": ASKED, "text_format": Place}
    response = client.responses.parse(**options)
    assert isinstance(response.output_parsed, Place)
    with client.responses.stream(**options) as stream:
        assert stream.get_final_response().output_parsed == response.output_parsed
    whole = client.responses.create(
        model="tiny_phi3", input=ASKED, text={"format": {"type": "json_object"}}
    )
    assert isinstance(json.loads(whole.output_text), dict)
    assert whole.text
    assert whole.text.format
    assert whole.text.format.type == "json_object"


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        (
            {"input": ASKED, "instructions": "Be brief."},
            [{"role": "system", "content": "Be brief."}, *QUESTION],
        ),
        (
            {
                "input": [{"role": "developer", "content": "In English."}, *QUESTION],
                "instructions": "Be brief.",
            },
            [{"role": "system", "content": "Be brief.\n\nIn English."}, *QUESTION],
        ),
        (
            {
                "input": [
                    {
                        "type": "message",
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "What is the "},
                            {"type": "input_text", "text": "capital of Peru?"},
                        ],
                    },
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {
                        "type": "message",
                        "id": "msg_1",
                        "status": "completed",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Lima.", "annotations": []}],
                    },
                    *QUESTION,
                ]
            },
            [
                {"role": "user", "content": "What is the capital of Peru?"},
                {"role": "assistant", "content": "Lima."},
                *QUESTION,
            ],
        ),
    ],
    ids=["instructions", "developer", "items"],
)
def test_input_is_the_same_prompt_as_messages(
    client: OpenAI, fields: dict[str, Any], messages: list[dict[str, str]]
) -> None:
    response = client.responses.create(model="tiny_phi3", **fields)
    completion = client.chat.completions.create(model="tiny_phi3", messages=messages)
    assert response.output_text == completion.choices[0].message.content
    assert response.usage
    assert completion.usage
    assert response.usage.input_tokens == completion.usage.prompt_tokens


@pytest.mark.parametrize("text_first", [True, False])
def test_items_of_one_turn_are_one_message(text_first: bool) -> None:
    text = {"role": "assistant", "content": "Let me see."}
    calls = [
        {"type": "function_call", "call_id": each, "name": "f", "arguments": "{}"} for each in "ab"
    ]
    outputs = [
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "2"}],
        },
    ]
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]}
    turn = [text, *calls] if text_first else [*calls, text]
    body = json.dumps({"input": [*QUESTION, thought, *turn, *outputs]}).encode()
    function = {"name": "f", "arguments": "{}"}
    assert requests.parse(body).chat.body["messages"] == [
        *QUESTION,
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": each, "type": "function", "function": function} for each in "ab"],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]


def test_answer_can_be_sent_back_as_input(client: OpenAI) -> None:
    first = client.responses.create(model="tiny_phi3", input=ASKED)
    again = "What is the capital of Peru?"
    turns = [*QUESTION, *first.output, {"role": "user", "content": again}]
    second = client.responses.create(model="tiny_phi3", input=turns)
    messages = [
        *QUESTION,
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": again},
    ]
    completion = client.chat.completions.create(model="tiny_phi3", messages=messages)
    assert second.output_text == completion.choices[0].message.content


def test_cut_answer_is_incomplete(client: OpenAI) -> None:
    options: Any = {"model": "tiny_phi3", "input": ASKED, "max_output_tokens": 3}
    response = client.responses.create(**options)
    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage
    assert response.usage.output_tokens == response.max_output_tokens == 3
    *_, last = client.responses.create(**options, stream=True)
    assert last.type == "response.incomplete"
    assert without_ids(last.response) == without_ids(response)


def test_options_take_effect_and_are_repeated(client: OpenAI) -> None:
    def create(**options: Any) -> Response:
        return client.responses.create(model="tiny_phi3", input=ASKED, **options)

    plain = create()
    assert (plain.store, plain.truncation, plain.tool_choice) == (False, "disabled", "auto")
    sampled = create(temperature=2.0, extra_body={"seed": 5}, metadata={"a": "b"})
    again = create(temperature=2.0, extra_body={"seed": 5})
    assert sampled.output_text == again.output_text != plain.output_text
    assert (sampled.temperature, sampled.metadata) == (2.0, {"a": "b"})
    greedy = create(temperature=2.0, top_p=1e-6)
    assert greedy.output_text == plain.output_text


def test_log_probabilities_are_those_of_a_chat(client: OpenAI) -> None:
    options: Any = {"model": "tiny_phi3", "top_logprobs": 2}
    included: Any = {"input": ASKED, "include": ["message.output_text.logprobs"], **options}
    response = client.responses.create(**included)
    [message] = response.output
    [part] = message.content
    chat = client.chat.completions.create(messages=QUESTION, logprobs=True, **options)
    expected = chat.choices[0].logprobs.content
    assert [each.to_dict() for each in part.logprobs] == [each.to_dict() for each in expected]
    events = client.responses.create(**included, stream=True)
    deltas = [each for each in events if each.type == "response.output_text.delta"]
    streamed = [each for delta in deltas for each in delta.logprobs]
    assert [each.logprob for each in streamed] == [each.logprob for each in expected]


def test_options_that_ask_for_nothing_are_accepted(client: OpenAI) -> None:
    response = client.responses.create(
        model="tiny_phi3",
        input=ASKED,
        store=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        service_tier="auto",
        user="me",
        prompt_cache_key="a",
        safety_identifier="b",
        background=False,
        parallel_tool_calls=True,
        tools=[],
        tool_choice="auto",
        text={"format": {"type": "text"}, "verbosity": "medium"},
        reasoning={"effort": None, "summary": "auto"},
        stream_options={"include_obfuscation": False},
    )
    assert "Tokyo" in response.output_text


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"store": True}, "keeps no responses", "store"),
        ({"previous_response_id": "resp_1"}, "keeps no responses", "previous_response_id"),
        ({"conversation": "conv_1"}, "keeps no responses", "conversation"),
        ({"background": True}, "background=True is not supported", "background"),
        ({"truncation": "auto"}, "truncation='auto' is not supported", "truncation"),
        ({"max_output_tokens": 0}, "max_output_tokens=0: must be", "max_output_tokens"),
        ({"max_tokens": 3}, "use max_output_tokens", "max_tokens"),
        ({"temperature": 3}, "temperature=3: must be between 0", "temperature"),
        ({"text": {"format": {"type": "xml"}}}, "text.format=", "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "schema", "text.format"),
        ({"text": []}, r"text=\[\]: must be an object", "text"),
        ({"include": ["everything"]}, "'everything' is not supported", "include"),
        ({"reasoning": {"effort": "high"}}, "reasoning_effort", "reasoning.effort"),
        ({"beam": 4}, "beam is not an option", "beam"),
        (
            {"max_output_token": 4},
            r"Did you mean max_output_tokens\? Use input",
            "max_output_token",
        ),
        ({"instructions": 1}, "instructions=1: must be text", "instructions"),
        ({"input": None}, "input=None: give text or a list", "input"),
        ({"input": [3]}, r"input\[0\]=3: give an object", "input"),
        ({"input": [{"role": "tools", "content": ""}]}, r"input\[0\].role='tools'", "input"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "store=false", "input"),
        ({"input": [{"type": "computer_call"}]}, "input.*type='computer_call'", "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            r"input\[0\].content\[0\]=.*only text",
            "input",
        ),
        ({"input": []}, "at least one message", "input"),
        ({"input": "x " * 900}, "context holds 512", "input"),
        ({"model": "gpt-4"}, "is not served here", "model"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("stream", [False, True])
def test_unsupported_options_are_rejected_by_name(
    server: Server, fields: dict[str, Any], message: str, param: str, stream: bool
) -> None:
    body = {"model": "tiny_phi3", "input": ASKED, **fields}
    with pytest.raises(openai.APIStatusError, match=message) as raised:
        server.client().responses.with_raw_response.create(
            model=body.pop("model"), stream=stream, extra_body=body
        )
    assert raised.value.param == param
    assert raised.value.status_code in (400, 404)


def test_failure_within_a_stream_ends_the_response(server: Server) -> None:
    """It is checked on the format itself: a model's process that ends would end the server."""
    format_ = ResponsesFormat(requests.parse(json.dumps({"input": ASKED}).encode()), "m")
    sent = format_.first() + format_.piece({"type": "piece", "text": "a"})
    sent += format_.error(RequestError("the model's process ended", 500))
    events = [json.loads(line[6:]) for line in sent.splitlines() if line.startswith("data: ")]
    failed = events[-1]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["message"] == "the model's process ended"


def test_disconnect_cancels_a_response(server: Server) -> None:
    with server.client().responses.create(model="tiny_phi3", input=ASKED, stream=True) as stream:
        next(iter(stream))
    assert call(server, "GET", "/health")[0] == 200


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_TYPES = ("message", "reasoning", "function_call", "function_call_output", "item_reference")
_PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "refusal"]), "text": _JSON}),
    max_size=2,
)
_ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES) | _JSON},
    optional={
        "role": st.sampled_from(["user", "assistant", "developer"]) | _JSON,
        **dict.fromkeys(("call_id", "name", "arguments", "summary"), _JSON),
        **dict.fromkeys(("content", "output"), _PARTS | _JSON),
    },
)
_NAMES = ("text", "reasoning", "include", "tools", "tool_choice", "max_output_tokens", "stream")
_FIELDS = st.fixed_dictionaries(
    {"input": st.lists(_ITEMS, max_size=3) | _JSON},
    optional=dict.fromkeys((*_NAMES, "instructions", "metadata", "stream_options"), _JSON),
)


@given(fields=_FIELDS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_request_is_parsed_or_rejected(fields: dict[str, Any]) -> None:
    try:
        parsed = requests.parse(json.dumps(fields).encode())
    except RequestError as error:
        assert str(error)
        return
    assert parsed.chat.body["messages"]
    assert json.dumps(parsed.repeated)
