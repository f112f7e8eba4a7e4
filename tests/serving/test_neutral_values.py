"""Values that ask for nothing are accepted, as clients of other servers send them."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.serving.calls import QUESTION, call, status_and_message
from tests.serving.conftest import Server, served_by

MODELS = {"server": "tiny_phi3", "older_server": "tiny_phi3", "torch_server": "transformers"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

# Of OpenAI, LangChain, LiteLLM, vLLM's and llama.cpp's clients, and lm-evaluation-harness.
NEUTRAL: dict[str, dict[str, Any]] = {
    "account": {
        "service_tier": "auto",
        "store": False,
        "user": "me",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
        "prompt_cache_key": "p",
        "prompt_cache_retention": "24h",
    },
    "nulls": {
        "tools": None,
        "tool_choice": None,
        "logprobs": None,
        "top_logprobs": None,
        "stop": None,
        "seed": None,
        "response_format": None,
        "reasoning_effort": None,
    },
    "no tools": {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
    "no functions": {"functions": [], "function_call": "none"},
    "tools that may not be called": {"tools": [TOOL], "tool_choice": "none"},
    "defaults": {
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "modalities": ["text"],
        "verbosity": "medium",
        "response_format": {"type": "text"},
        "reasoning_effort": "none",
        "stream_options": {},
    },
    "no limit": {"seed": -1, "max_tokens": -1},
    "vLLM": {
        "use_beam_search": False,
        "ignore_eos": False,
        "min_tokens": 0,
        "length_penalty": 1.0,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "stop_token_ids": [],
        "include_stop_str_in_output": False,
        "add_generation_prompt": True,
        "continue_final_message": False,
        "request_id": "r",
    },
    "llama.cpp": {"cache_prompt": True, "mirostat": 0, "typical_p": 1.0, "tfs_z": 1.0},
}

ASSISTANT = {"role": "assistant", "content": "Ask me another."}
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "type of a message": [{**QUESTION[0], "type": "text"}],
    "part with cache control": [
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": QUESTION[0]["content"],
                    "cache_control": {"type": "ephemeral"},
                }
            ],
        }
    ],
    "answer as the client returns it": [
        QUESTION[0],
        {
            **ASSISTANT,
            "tool_calls": [],
            "refusal": None,
            "function_call": None,
            "annotations": [],
            "audio": None,
            "provider_specific_fields": {"refusal": None},
        },
        QUESTION[0],
    ],
    "empty names": [{**QUESTION[0], "name": "", "tool_call_id": None, "cache_control": {}}],
}


@pytest.fixture(params=served_by(MODELS))
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server_of_flavor(flavor: str, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(flavor)
    return server


@pytest.fixture
def client(server_of_flavor: Server) -> OpenAI:
    return server_of_flavor.client()


def answer(client: OpenAI, flavor: str, messages: Any = QUESTION, **fields: Any) -> str | None:
    completion = client.chat.completions.create(
        model=MODELS[flavor], messages=messages, extra_body=fields
    )
    return completion.choices[0].message.content


def test_neutral_options_change_nothing(client: OpenAI, flavor: str) -> None:
    plain = answer(client, flavor)
    answers = {name: answer(client, flavor, **fields) for name, fields in NEUTRAL.items()}
    assert answers == dict.fromkeys(NEUTRAL, plain)


def test_neutral_fields_of_messages_change_nothing(client: OpenAI, flavor: str) -> None:
    bare = [QUESTION[0], ASSISTANT, QUESTION[0]]
    once, twice = answer(client, flavor), answer(client, flavor, bare)
    assert {name: answer(client, flavor, messages) for name, messages in MESSAGES.items()} == {
        name: once if len(messages) == 1 else twice for name, messages in MESSAGES.items()
    }


def test_answers_may_be_empty_in_the_history(server: Server) -> None:
    client = server.client()
    history = [QUESTION[0], {"role": "assistant", "content": None}, QUESTION[0]]
    empty = [QUESTION[0], {"role": "assistant", "content": ""}, QUESTION[0]]
    assert answer(client, "server", history) == answer(client, "server", empty)


def test_neutral_options_of_text_completions(client: OpenAI, flavor: str) -> None:
    def text(**fields: Any) -> str:
        completion = client.completions.create(
            model=MODELS[flavor], prompt="The capital of", max_tokens=4, extra_body=fields
        )
        return completion.choices[0].text

    neutral = {"best_of": 1, "echo": False, "suffix": "", "logprobs": None, "n": 1, "seed": -1}
    assert text(**neutral) == text(stop=[], logit_bias={}) == text()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("service_tier", "priority"), ("store", True), ("ignore_eos", True)),
        *(("modalities", ["text", "audio"]), ("web_search_options", {}), ("suffix", "end")),
        *(("seed", 1.5), ("max_completion_tokens", 0), ("stop", 5), ("stream_options", "all")),
        *(("chat_template_kwargs", {"no_such_variable": 1}), ("reasoning_effort", "high")),
        *(("response_format", {"type": "xml"}), ("beam", 3)),
    ],
)
def test_rejected_field_is_the_param(server: Server, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=field) as raised:
        answer(server.client(), "server", **{field: value})
    assert raised.value.param == field
    assert raised.value.code == ("unknown_parameter" if field == "beam" else None)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "narrator", "content": "a"}],
        [{"role": "user", "content": "a", "mood": "good"}],
        [{"role": "user"}],
        [],
    ],
    ids=["image", "part without text", "bare part", "role", "field", "no content", "none"],
)
def test_rejected_message_is_the_param(server: Server, messages: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        answer(server.client(), "server", messages)
    assert raised.value.param == "messages"


@pytest.mark.parametrize("stream", [False, True])
def test_long_prompt_has_openai_code(client: OpenAI, flavor: str, stream: bool) -> None:
    if flavor == "older_server":
        pytest.skip("its runtime has no codes")
    with pytest.raises(openai.BadRequestError, match="context holds 512") as raised:
        client.chat.completions.create(
            model=MODELS[flavor], messages=[{"role": "user", "content": "x " * 900}], stream=stream
        )
    assert (raised.value.param, raised.value.code) == ("messages", "context_length_exceeded")
    with pytest.raises(openai.BadRequestError, match="context holds 512") as raised:
        client.completions.create(model=MODELS[flavor], prompt="x " * 900)
    assert (raised.value.param, raised.value.code) == ("prompt", "context_length_exceeded")


def test_chat_message_has_null_refusal(server_of_flavor: Server) -> None:
    _, _, body = call(server_of_flavor, "POST", "/v1/chat/completions", {"messages": QUESTION})
    assert '"refusal":null' in body.replace(" ", "")


def test_continuous_usage_counts_up(server: Server) -> None:
    stream = server.client().chat.completions.create(
        model="tiny_phi3",
        messages=QUESTION,
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},  # type: ignore[typeddict-unknown-key]
    )
    first, *chunks, last = stream
    assert first.usage is None
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(counts) == len(chunks) > 3
    assert counts == sorted(counts)
    assert last.usage
    assert counts[-1] == last.usage.completion_tokens
    assert {chunk.usage.prompt_tokens for chunk in chunks if chunk.usage} == {
        last.usage.prompt_tokens
    }


def test_older_model_has_no_continuous_usage(older_server: Server) -> None:
    body = {
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"continuous_usage_stats": True},
    }
    status, message = status_and_message(call(older_server, "POST", "/v1/chat/completions", body))
    assert (status, "log the model again" in message) == (400, True)


@pytest.mark.parametrize(
    "options", [{"include_usage": False, "include_obfuscation": False}, {"include_usage": None}]
)
def test_stream_options_without_effect_need_no_stream(
    server: Server, options: dict[str, Any]
) -> None:
    body = {"messages": QUESTION, "stream_options": options}
    assert call(server, "POST", "/v1/chat/completions", body)[0] == 200


@pytest.mark.parametrize(
    "options", [{"include_obfuscation": True}, {"include_usage": "yes"}, {"usage": True}, []]
)
def test_other_stream_options_are_rejected(server: Server, options: Any) -> None:
    body = {"messages": QUESTION, "stream": True, "stream_options": options}
    status, message = status_and_message(call(server, "POST", "/v1/chat/completions", body))
    assert status == 400
    assert "stream_options" in message
