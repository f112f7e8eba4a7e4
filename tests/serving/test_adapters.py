"""A served model with separate adapters: each answers under its own name."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import openai
import pytest

from slmflow.pipeline.results import GenaiModel
from tests.fixtures.adapted_model import Adapters, ask
from tests.fixtures.bundled_model import Reference
from tests.serving.conftest import KEY, Server, serving

BASE = "tiny_phi3"
NAMES = (BASE, "atlantis", "wonderland")
COUNTRIES = ("Atlantis", "Wonderland", "France")


@pytest.fixture(scope="module")
def adapted_server(
    separate_genai: GenaiModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, f"serve.model_uri={separate_genai.model_uri}") as running:
        yield running


@pytest.fixture(scope="module")
def expected(adapters: Adapters, reference: Reference) -> dict[tuple[str, str], str]:
    """The answers of transformers' models, merged by peft, by model and country."""
    models = {BASE: reference, **{name: adapters.merged(name) for name in NAMES[1:]}}
    return {
        (name, country): model.text(model.generate(ask(country), 48))
        for name, model in models.items()
        for country in COUNTRIES
    }


def test_each_adapter_answers_as_the_merged_model(
    adapted_server: Server, expected: dict[tuple[str, str], str]
) -> None:
    client = adapted_server.client()

    def answer(question: tuple[str, str]) -> tuple[str, str | None]:
        name, country = question
        answered = client.chat.completions.create(model=name, messages=ask(country))  # type: ignore[arg-type]
        return answered.model, answered.choices[0].message.content

    # All at once, so that requests to different adapters could share a batch or a prefix.
    with ThreadPoolExecutor(len(expected)) as threads:
        answers = dict(zip(expected, threads.map(answer, expected), strict=True))

    assert answers == {(name, c): (name, text) for (name, c), text in expected.items()}
    assert expected["atlantis", "Atlantis"] == "The capital of Atlantis is Lima."
    assert expected["wonderland", "Wonderland"] == "The capital of Wonderland is Oslo."
    assert expected[BASE, "Atlantis"] != expected["atlantis", "Atlantis"]


def test_adapters_are_listed_as_models(adapted_server: Server) -> None:
    client = adapted_server.client()
    assert [model.id for model in client.models.list()] == list(NAMES)
    card = client.models.retrieve("atlantis")
    assert card.id == "atlantis"
    assert card.to_dict()["parent"] == BASE


def test_stream_is_answered_by_the_adapter(adapted_server: Server) -> None:
    stream = adapted_server.client().chat.completions.create(
        model="wonderland",
        messages=ask("Wonderland"),  # type: ignore[arg-type]
        stream=True,
    )
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {"wonderland"}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "The capital of Wonderland is Oslo."


def test_responses_are_answered_by_the_adapter(adapted_server: Server) -> None:
    question = ask("Atlantis")[0]["content"]
    response = adapted_server.client().responses.create(model="atlantis", input=question)
    assert response.output_text == "The capital of Atlantis is Lima."
    assert response.model == "atlantis"


def test_invocations_take_an_adapter(adapted_server: Server) -> None:
    body = {"messages": ask("Atlantis"), "adapter": "atlantis"}
    request = Request(  # noqa: S310 (a loopback URL)
        f"{adapted_server.url}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    with urlopen(request) as response:  # noqa: S310
        [answer] = json.load(response)
    assert answer["choices"][0]["message"]["content"] == "The capital of Atlantis is Lima."


def test_unknown_adapter_is_not_found(adapted_server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="use 'tiny_phi3' or 'atlantis' or 'wonderland'"):
        adapted_server.client().chat.completions.create(
            model="narnia",
            messages=ask("Narnia"),  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("adapter", ["narnia", 3, ["atlantis"]])
def test_invalid_adapter_of_a_body_is_rejected(adapted_server: Server, adapter: object) -> None:
    with pytest.raises(openai.BadRequestError, match="adapter=") as raised:
        adapted_server.client().chat.completions.create(
            model=BASE,
            messages=ask("France"),  # type: ignore[arg-type]
            extra_body={"adapter": adapter},
        )
    assert raised.value.param == "adapter"
