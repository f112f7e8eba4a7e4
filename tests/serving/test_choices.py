"""Several completions of one request, and log-probabilities, with the openai client."""

import json
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.fixtures.bundled_model import Reference
from tests.serving.calls import call, metric, start_request
from tests.serving.conftest import MOST_WAITING, Server, served_by

NAMES = {"server": "tiny_phi3", "torch_server": "transformers"}
TEXTS = ["The capital of France", "The capital of Japan is", "Once"]
QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


@pytest.fixture(params=served_by(NAMES))
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(flavor: str, request: pytest.FixtureRequest) -> OpenAI:
    running: Server = request.getfixturevalue(flavor)
    return running.client()


@pytest.fixture
def name(flavor: str) -> str:
    return NAMES[flavor]


def continued(client: OpenAI, name: str, prompt: Any, **options: Any) -> Any:
    return client.completions.create(
        model=name, prompt=prompt, **{"max_tokens": 6, "temperature": 0, **options}
    )


def test_prompts_equal_single_requests(client: OpenAI, name: str, reference: Reference) -> None:
    alone = [continued(client, name, text) for text in TEXTS]
    ids = [reference.tokenizer(text).input_ids for text in TEXTS]
    for prompts in (TEXTS, ids):
        together = continued(client, name, prompts)
        assert [choice.index for choice in together.choices] == [0, 1, 2]
        for choice, single in zip(together.choices, alone, strict=True):
            assert choice.text == single.choices[0].text
            assert choice.finish_reason == single.choices[0].finish_reason
        for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
            total = sum(getattr(single.usage, field) for single in alone)
            assert getattr(together.usage, field) == total
    assert continued(client, name, ids[0]).choices[0].text == alone[0].choices[0].text


def test_n_completions_have_the_next_seeds(client: OpenAI, name: str) -> None:
    def ask(**options: Any) -> Any:
        return client.chat.completions.create(
            model=name, messages=QUESTION, max_tokens=12, temperature=2.0, **options
        )

    alone = [ask(seed=seed) for seed in range(5, 9)]
    together = ask(seed=5, n=4)
    texts = [choice.message.content for choice in together.choices]
    assert texts == [single.choices[0].message.content for single in alone]
    assert len(set(texts)) > 1
    assert together.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert together.usage.completion_tokens == sum(
        single.usage.completion_tokens for single in alone
    )


def test_n_of_each_prompt_come_in_order(client: OpenAI, name: str) -> None:
    options = {"n": 2, "temperature": 2.0, "seed": 3}
    together = continued(client, name, TEXTS, **options)
    alone = [continued(client, name, text, **options) for text in TEXTS]
    expected = [choice.text for single in alone for choice in single.choices]
    assert [choice.text for choice in together.choices] == expected
    assert together.usage.prompt_tokens == sum(single.usage.prompt_tokens for single in alone)


def test_streamed_choices_equal_whole_ones(client: OpenAI, name: str) -> None:
    options = {"n": 3, "temperature": 2.0, "seed": 1, "max_tokens": 12}
    whole = client.chat.completions.create(
        model=name, messages=QUESTION, logprobs=True, top_logprobs=2, **options
    )
    stream = client.chat.completions.create(
        model=name,
        messages=QUESTION,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
        **options,
    )
    *chunks, last = list(stream)
    assert last.choices == [] and last.usage == whole.usage
    texts, logprobs, reasons = [""] * 3, [[], [], []], [None] * 3
    order = []
    for chunk in chunks:
        [choice] = chunk.choices
        order.append(choice.index)
        assert reasons[choice.index] is None, "nothing follows the end of a choice"
        texts[choice.index] += choice.delta.content or ""
        logprobs[choice.index] += choice.logprobs.content if choice.logprobs else []
        reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert logprobs == [choice.logprobs.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert sorted(order[:3]) == [0, 1, 2]


def test_streamed_prompts_equal_whole_ones(client: OpenAI, name: str) -> None:
    options = {"echo": True, "logprobs": 1}
    whole = continued(client, name, TEXTS, **options)
    texts, tokens = [""] * 3, [[], [], []]
    for chunk in continued(client, name, TEXTS, stream=True, **options):
        [choice] = chunk.choices
        texts[choice.index] += choice.text
        tokens[choice.index] += choice.logprobs.tokens if choice.logprobs else []
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [choice.logprobs.tokens for choice in whole.choices]


def test_chat_logprobs_equal_transformers(client: OpenAI, name: str, reference: Reference) -> None:
    answer = client.chat.completions.create(
        model=name, messages=QUESTION, logprobs=True, top_logprobs=5, temperature=0
    )
    prompt = reference.prompt(QUESTION)
    ids = reference.generate(QUESTION, 48)
    expected = reference.logprobs(prompt + ids)[len(prompt) - 1 :]
    content = answer.choices[0].logprobs.content
    assert len(content) == len(ids) - 1, "OpenAI leaves the end token out"
    for each, token, values in zip(content, ids[:-1], expected[:-2], strict=True):
        assert each.logprob == pytest.approx(values[token], abs=1e-3)
        best = np.sort(values)[::-1][:5]
        assert [one.logprob for one in each.top_logprobs] == pytest.approx(best, abs=1e-3)
        assert each.top_logprobs[0].token == each.token
    text = b"".join(bytes(each.bytes) for each in content).decode()
    assert text.lstrip() == answer.choices[0].message.content


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echoed_logprobs_equal_transformers(
    client: OpenAI, name: str, reference: Reference, max_tokens: int
) -> None:
    """As lm-evaluation-harness asks for the likelihood of token ids."""
    prompts = [reference.tokenizer(text).input_ids * 3 for text in TEXTS]
    answer = continued(
        client, name, prompts, echo=True, logprobs=1, max_tokens=max_tokens, seed=1234
    )
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        read = choice.logprobs
        assert len(read.tokens) == len(prompt) + max_tokens
        assert read.token_logprobs[0] is None and read.top_logprobs[0] is None
        expected = reference.logprobs(prompt)
        for place in range(1, len(prompt)):
            values = expected[place - 1]
            assert read.token_logprobs[place] == pytest.approx(values[prompt[place]], abs=1e-3)
            best = max(read.top_logprobs[place].values())
            assert best == pytest.approx(values.max(), abs=1e-3)
        assert choice.text.startswith(reference.tokenizer.decode(prompt))


def test_completion_logprobs_have_the_end_token(client: OpenAI, name: str) -> None:
    answer = continued(client, name, TEXTS[0], max_tokens=40, logprobs=2)
    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    assert len(choice.logprobs.tokens) == answer.usage.completion_tokens
    assert choice.logprobs.tokens[-1] == "<|end|>"
    assert "".join(choice.logprobs.tokens[:-1]) == choice.text
    assert choice.logprobs.text_offset[-1] == len(choice.text)
    assert all(1 <= len(each) <= 3 for each in choice.logprobs.top_logprobs)


def test_one_invalid_prompt_rejects_all(client: OpenAI, name: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="vocabulary has only 1024"):
            continued(client, name, [[370], [10**6]], stream=stream)
    assert continued(client, name, [[370], [371]]).choices[1].text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0: must be a whole number from 1 to 8"),
        ({"n": 9}, "n=9: must be a whole number from 1 to 8"),
        ({"prompt": [["x"], "y"]}, "give a text, a list of texts"),
        ({"prompt": [[]]}, "give a text, a list of texts"),
        ({"best_of": 3, "n": 2}, "best_of=3 is not supported"),
        ({"logprobs": 21}, "logprobs=21: must be"),
        ({"extra_body": {"logit_bias": {"x": 1}}}, "'x' is not a token id"),
    ],
)
def test_invalid_values_are_named(
    client: OpenAI, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        continued(client, name, **{"prompt": TEXTS[0], **options})


def test_each_choice_has_a_place_in_the_queue(server: Server) -> None:
    body = {"prompt": [TEXTS[0]] * (MOST_WAITING + 1), "max_tokens": 1}
    status, _, text = call(server, "POST", "/v1/completions", body)
    assert status == 400 and f"asks for {MOST_WAITING + 1} completions" in text
    full = {"prompt": [TEXTS[0]] * MOST_WAITING, "max_tokens": 1}
    with server.paused():
        waiting = start_request(server)
        while metric(server, "slmflow_requests_waiting") < 1:
            pass
        assert call(server, "POST", "/v1/completions", full)[0] == 429
        waiting.close()
        while metric(server, "slmflow_requests_waiting"):
            pass
    status, _, text = call(server, "POST", "/v1/completions", full)
    assert status == 200 and len(json.loads(text)["choices"]) == MOST_WAITING


def test_leaving_client_cancels_all_choices(server: Server) -> None:
    cancelled = metric(server, "slmflow_requests_cancelled_total")
    with server.paused():
        waiting = start_request(server, n=4)
        while metric(server, "slmflow_requests_waiting") < 4:
            pass
        waiting.close()
        while metric(server, "slmflow_requests_cancelled_total") < cancelled + 4:
            pass
    assert metric(server, "slmflow_requests_waiting") == 0


def test_older_model_names_what_it_lacks(older_server: Server) -> None:
    client = older_server.client()
    texts = [continued(client, "tiny_phi3", text).choices[0].text for text in TEXTS]
    together = continued(client, "tiny_phi3", TEXTS)
    assert [choice.text for choice in together.choices] == texts
    neutral = {"echo": False, "extra_body": {"logit_bias": {}}}
    assert continued(client, "tiny_phi3", TEXTS[0], **neutral).choices[0].text == texts[0]
    for options in ({"logprobs": 1}, {"echo": True}, {"extra_body": {"min_p": 0.1}}):
        with pytest.raises(openai.BadRequestError, match="log the model again"):
            continued(client, "tiny_phi3", TEXTS[0], **options)
    with pytest.raises(openai.BadRequestError, match="a prompt of token ids needs"):
        continued(client, "tiny_phi3", [370, 371])
