"""The openai client against the running server: either flavor, and an older model."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import OpenAI

from tests.fixtures.bundled_model import Reference
from tests.serving.conftest import Server

QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]
NAMES = {"server": "tiny_phi3", "older_server": "tiny_phi3", "torch_server": "transformers"}


@pytest.fixture(params=NAMES)
def flavor(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def name(flavor: str) -> str:
    return NAMES[flavor]


@pytest.fixture
def client(flavor: str, request: pytest.FixtureRequest) -> OpenAI:
    return request.getfixturevalue(flavor).client()


def test_completion_equals_transformers(client: OpenAI, name: str, reference: Reference) -> None:
    ids = reference.generate(QUESTION, 48)
    completion = client.chat.completions.create(model=name, messages=QUESTION)
    [choice] = completion.choices
    assert choice.message.content == reference.text(ids)
    assert choice.finish_reason == "stop"
    assert completion.model == name
    assert completion.usage
    assert completion.usage.prompt_tokens == len(reference.prompt(QUESTION))
    assert completion.usage.completion_tokens == len(ids)


def test_stream_joins_to_the_same_text(client: OpenAI, name: str) -> None:
    whole = client.chat.completions.create(model=name, messages=QUESTION)
    chunks = list(
        client.chat.completions.create(
            model=name, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    *content, end, usage = chunks
    pieces = [chunk.choices[0].delta.content or "" for chunk in content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 1
    assert content[0].choices[0].delta.role == "assistant"
    assert end.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage == whole.usage


def test_text_completion_continues_prompt(client: OpenAI, name: str) -> None:
    completion = client.completions.create(model=name, prompt="The capital of", max_tokens=4)
    assert completion.object == "text_completion"
    assert completion.choices[0].text
    assert completion.usage
    assert completion.usage.completion_tokens == 4
    stream = client.completions.create(
        model=name, prompt="The capital of", max_tokens=4, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == completion.choices[0].text


def test_options_take_effect(client: OpenAI, name: str) -> None:
    def text(**options: object) -> str | None:
        completion = client.chat.completions.create(model=name, messages=QUESTION, **options)
        return completion.choices[0].message.content

    plain = text()
    assert plain
    assert text(max_completion_tokens=2) == text(max_tokens=2) != plain
    assert text(stop=[plain[4:7]]) == plain[:4]
    assert text(temperature=2.0, seed=5) == text(temperature=2.0, seed=5)
    assert text(temperature=2.0, seed=5, top_p=1e-6) == plain
    assert text(extra_body={"repetition_penalty": 10.0}) != plain


def test_models_are_listed(client: OpenAI, name: str) -> None:
    assert [model.id for model in client.models.list()] == [name]
    assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.models.retrieve("gpt-4")


def test_concurrent_requests_equal_single_ones(client: OpenAI, name: str) -> None:
    countries = ["France", "Japan", "Peru", "Norway", "Kenya", "Chile", "Cuba", "Egypt"]

    def complete(country: str) -> str | None:
        question = [{"role": "user", "content": f"What is the capital of {country}?"}]
        completion = client.chat.completions.create(model=name, messages=question)
        return completion.choices[0].message.content

    alone = [complete(country) for country in countries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(complete, countries)) == alone


def test_misspelled_field_is_answered_with_all(server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as rejected:
        server.client().chat.completions.create(
            model="tiny_phi3", messages=QUESTION, extra_body={"max_token": 4}
        )
    assert rejected.value.param == "max_token"
    assert rejected.value.code == "unknown_parameter"
    question, _, listed = rejected.value.body["message"].partition(" Use ")  # type: ignore[index]
    assert question == "max_token is not an option. Did you mean max_tokens?"
    assert {"messages", "model", "n", "stream", "stream_options", "tools"} <= {*listed.split(", ")}
    assert "echo" not in listed.split(", ")


def test_schema_is_followed_or_rejected(server: Server, torch_server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    request = {
        "messages": QUESTION,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        "max_tokens": 40,
    }
    completion = server.client().chat.completions.create(model="tiny_phi3", **request)
    assert '"a"' in (completion.choices[0].message.content or "")
    with pytest.raises(openai.BadRequestError, match="response_format is not supported"):
        torch_server.client().chat.completions.create(model="transformers", **request)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 3}, "temperature=3: must be between 0"),
        ({"n": 9}, "n=9: must be a whole number from 1 to 8"),
        ({"max_tokens": 0}, "max_tokens=0: must be"),
        ({"max_tokens": -2}, "max_tokens=-2: must be"),
        ({"store": True}, "store=True is not supported"),
        ({"extra_body": {"beam": 4}}, "beam is not an option"),
        ({"messages": [{"role": "user", "content": "x " * 900}]}, "context holds 512"),
        ({"messages": []}, "at least one message"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_unsupported_options_are_rejected_by_name(
    client: OpenAI, name: str, options: dict[str, object], message: str, stream: bool
) -> None:
    request = {"messages": QUESTION, **options}
    with pytest.raises(openai.BadRequestError, match=message):
        client.chat.completions.create(model=name, stream=stream, **request)
