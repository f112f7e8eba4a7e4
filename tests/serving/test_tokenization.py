"""/tokenize and /detokenize, compared with the tokenizer of transformers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.bundled_model import Reference
from tests.serving.calls import QUESTION, call, status_and_message
from tests.serving.conftest import Server, served_by

TEXT = "The capital of Perú, 首都: a\n b"
TURNS = [*QUESTION, {"role": "assistant", "content": "Paris."}]

Post = Callable[[str, dict[str, Any]], dict[str, Any]]


@pytest.fixture(params=served_by(["server", "torch_server"]))
def flavor(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def post(flavor: Server) -> Post:
    def send(path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, _, text = call(flavor, "POST", path, body)
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    return send


def test_tokens_of_a_text_equal_transformers(post: Post, reference: Reference) -> None:
    answer = post("/tokenize", {"prompt": TEXT})
    expected = reference.tokenizer(TEXT).input_ids
    assert answer["tokens"] == expected
    assert answer["count"] == len(expected)
    assert answer["max_model_len"] == 512
    assert answer["token_strs"] is None
    bare = post("/tokenize", {"prompt": TEXT, "add_special_tokens": False})
    assert bare["tokens"] == reference.tokenizer(TEXT, add_special_tokens=False).input_ids
    texts = post("/tokenize", {"prompt": TEXT, "return_token_strs": True})["token_strs"]
    assert texts == reference.tokenizer.convert_ids_to_tokens(expected)


def test_tokens_of_messages_equal_transformers(post: Post, reference: Reference) -> None:
    assert post("/tokenize", {"messages": QUESTION})["tokens"] == reference.prompt(QUESTION)
    answer = post("/tokenize", {"messages": TURNS, "add_generation_prompt": False})
    expected = reference.tokenizer.apply_chat_template(
        TURNS, add_generation_prompt=False, return_dict=False
    )
    assert answer["tokens"] == expected


def test_text_of_tokens_equals_transformers(post: Post, reference: Reference) -> None:
    tokens = reference.prompt(QUESTION)
    answer = post("/detokenize", {"tokens": tokens})
    assert answer["prompt"] == answer["content"] == reference.tokenizer.decode(tokens)
    assert post("/detokenize", {"tokens": []})["prompt"] == ""


def test_names_of_llama_cpp_are_accepted(post: Post, reference: Reference) -> None:
    bare = reference.tokenizer(TEXT, add_special_tokens=False).input_ids
    assert post("/tokenize", {"content": TEXT})["tokens"] == bare
    with_special = {"content": TEXT, "add_special": True, "parse_special": True}
    assert post("/tokenize", with_special)["tokens"] == reference.tokenizer(TEXT).input_ids


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/tokenize", {}, "give either a prompt or messages"),
        ("/tokenize", {"prompt": "a", "messages": QUESTION}, "give either a prompt or messages"),
        ("/tokenize", {"prompt": ["a"]}, "prompt=['a']: give text"),
        (
            "/tokenize",
            {"prompt": "a", "temperature": 1},
            "temperature is not an option. Use prompt",
        ),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "must be true or false"),
        ("/tokenize", {"messages": []}, "at least one message"),
        ("/tokenize", {"messages": QUESTION, "add_special_tokens": True}, "with messages"),
        ("/tokenize", {"messages": QUESTION, "max_tokens": 3}, "max_tokens is not an option"),
        ("/tokenize", {"content": "a", "with_pieces": True}, "with_pieces=True is not supported"),
        ("/tokenize", {"prompt": "a", "model": "gpt-4"}, "is not served here"),
        ("/detokenize", {}, "tokens=None: give a list"),
        ("/detokenize", {"tokens": [1, 10**6]}, "1000000 is no token of this model"),
        ("/detokenize", {"tokens": [-1]}, "-1 is no token of this model"),
        ("/detokenize", {"tokens": [True]}, "True is no token of this model"),
        ("/detokenize", {"tokens": ["a"]}, "'a' is no token of this model"),
        ("/detokenize", {"tokens": [1], "a": 1}, "a is not an option. Use tokens"),
    ],
    ids=str,
)
def test_invalid_request_is_rejected(
    server: Server, path: str, body: dict[str, Any], message: str
) -> None:
    status, text = status_and_message(call(server, "POST", path, body))
    assert status in (400, 404)
    assert message in text


def test_model_logged_earlier_is_told_to_be_logged_again(older_server: Server) -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [1]})):
        status, message = status_and_message(call(older_server, "POST", path, body))
        assert status == 400
        assert "log the model again" in message


def test_tokens_are_counted_while_the_model_generates(server: Server) -> None:
    with server.client().chat.completions.create(
        model="tiny_phi3", messages=QUESTION, stream=True
    ) as stream:
        next(iter(stream))
        assert call(server, "POST", "/tokenize", {"prompt": "a"})[0] == 200
