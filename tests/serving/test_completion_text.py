"""The text of /v1/completions is what transformers generates, byte for byte."""

import pytest
from openai import OpenAI

from tests.fixtures.bundled_model import Reference
from tests.serving.conftest import served_by

MODELS = {"server": "tiny_phi3", "torch_server": "transformers"}
PROMPTS = ["def fibonacci(n):", "The capital of", "The capital of France is", "x\n\n", "日本"]


@pytest.fixture(params=served_by(MODELS))
def flavor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(flavor: str, request: pytest.FixtureRequest) -> OpenAI:
    client: OpenAI = request.getfixturevalue(flavor).client()
    return client


def continuation(reference: Reference, prompt: str, max_new_tokens: int = 12) -> str:
    """Return what transformers' `generate` adds to a prompt."""
    ids = reference.tokenizer.encode(prompt)
    whole = ids + reference.continue_prompt(ids, max_new_tokens)
    before, text = (
        reference.tokenizer.decode(each, skip_special_tokens=True) for each in (ids, whole)
    )
    return text[len(before) :]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_text_is_that_of_transformers(
    client: OpenAI, flavor: str, reference: Reference, prompt: str
) -> None:
    expected = continuation(reference, prompt)
    request = {"model": MODELS[flavor], "prompt": prompt, "max_tokens": 12, "temperature": 0}
    assert client.completions.create(**request).choices[0].text == expected
    stream = client.completions.create(**request, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == expected


def test_stop_string_in_leading_white_space_ends(
    client: OpenAI, flavor: str, reference: Reference
) -> None:
    prompt = next(each for each in PROMPTS if continuation(reference, each)[:1].isspace())
    space = continuation(reference, prompt)[0]
    completion = client.completions.create(
        model=MODELS[flavor], prompt=prompt, max_tokens=12, temperature=0, stop=[space]
    )
    assert completion.choices[0].text == ""
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert completion.usage.completion_tokens < 12
