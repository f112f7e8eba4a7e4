"""The engine with a folder that has adapters: batches and kept generators stay apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.genai import GenaiEngine
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder
from tests.fixtures.adapted_model import Messages, ask

DEFAULTS = {"max_tokens": 48, "temperature": 0.0, "top_p": 1.0}
LONG = [{"role": "system", "content": "You know all the capitals of the world. " * 12}]


def _model(folder: Path) -> ChatModel:
    return ChatModel(GenaiEngine(folder), TemplatePromptEncoder(folder), "tiny", DEFAULTS)


@pytest.fixture(scope="module")
def model(separate: Path) -> ChatModel:
    return _model(separate)


def _answer(model: ChatModel, messages: Messages, adapter: str | None) -> str:
    [completion] = model.generate([{"messages": messages, "adapter": adapter}])
    return completion.text


def test_kept_generator_serves_its_own_adapter_only(separate: Path, model: ChatModel) -> None:
    questions: Sequence[tuple[str | None, str]] = [
        (None, "Atlantis"),
        ("atlantis", "Atlantis"),
        ("wonderland", "Wonderland"),
        (None, "Wonderland"),
        ("atlantis", "Atlantis"),
    ]
    answers = [_answer(model, LONG + ask(country), name) for name, country in questions]
    alone = [_answer(_model(separate), LONG + ask(country), name) for name, country in questions]
    assert answers == alone
    assert answers[0] != answers[1] == answers[4]
    engine: Any = model._engine
    kept = {reader.adapter for reader in engine.cache._kept}
    assert kept == {None, "atlantis", "wonderland"}


def test_only_requests_to_one_adapter_are_batched(model: ChatModel) -> None:
    def prepare(adapter: str | None) -> ActiveRequest:
        return model.prepare({"messages": ask("France"), "adapter": adapter}, lambda event: None)

    engine: Any = model._engine
    assert engine.can_batch([prepare("atlantis"), prepare("atlantis")])
    assert not engine.can_batch([prepare("atlantis"), prepare("wonderland")])
    assert not engine.can_batch([prepare("atlantis"), prepare(None)])


def test_mixed_requests_are_answered_by_their_adapters(model: ChatModel) -> None:
    names = [None, "atlantis", "wonderland"] * 3
    countries = ["Atlantis"] * 3 + ["Wonderland"] * 3 + ["France"] * 3
    requests = [
        {"messages": ask(country), "adapter": name}
        for name, country in zip(names, countries, strict=True)
    ]
    together = [completion.text for completion in model.generate(requests)]
    assert together == [
        _answer(model, ask(country), name) for name, country in zip(names, countries, strict=True)
    ]
