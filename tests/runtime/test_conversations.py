"""What earlier requests have read, used by later ones: the texts stay the same."""

import queue
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slmflow.conversion.genai_builder import edited_config
from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.events import Completion, TextPiece
from slmflow.runtime.generation.genai import GenaiEngine
from slmflow.runtime.generation.genai_prefill import RowPrefill
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder
from slmflow.runtime.scheduling import scheduler
from tests.runtime.active_requests import active_request
from tests.runtime.fixed_costs import FixedCosts

Conversation = list[dict[str, str]]

OPTIONS = [
    {},
    {"temperature": 1.5, "seed": 7},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.5},
]
DEFAULTS = {"max_tokens": 20, "temperature": 0.0, "top_p": 1.0}
LONG_QUESTION = "What is the capital of Japan, of Peru, of Kenya and of Norway? " * 8


@pytest.fixture(scope="module")
def model(onnx: Path) -> ChatModel:
    """The bundled model, greedy if a request does not say otherwise."""
    return ChatModel(GenaiEngine(onnx), TemplatePromptEncoder(onnx), "bundled", DEFAULTS)


@pytest.fixture
def read(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of tokens that single requests read, with an empty cache of 100 MB."""
    set_cache(model, 100)
    # Costs of another model than this tiny one, so that a prompt is worth sparing.
    monkeypatch.setattr(model._scheduler, "_costs", FixedCosts())
    parts, advance = list[int](), RowPrefill.advance

    def record(prefill: RowPrefill, tokens: int) -> Any:
        before = prefill.unread
        batch = advance(prefill, tokens)
        parts.append(before - prefill.unread)
        return batch

    monkeypatch.setattr(RowPrefill, "advance", record)
    yield parts
    wait_until_idle(model)


def set_cache(model: ChatModel, megabytes: int) -> None:
    """Empty the cache, and limit it."""
    wait_until_idle(model)
    cache = model._engine.cache
    cache.max_bytes = 0
    cache.reserve(0)
    assert cache.kept_bytes == cache._running_bytes == 0
    cache.max_bytes = megabytes * 2**20


def wait_until_idle(model: ChatModel) -> None:
    """Wait for what follows the delivery of the last completion."""
    if thread := model._scheduler._thread:
        thread.join()


def answer(model: ChatModel, messages: Conversation, **options: Any) -> str:
    [completion] = model.generate([{"messages": messages, **options}])
    return completion.text


def turns(first: str) -> list[Conversation]:
    """Return the requests of a conversation of three turns, with fixed answers."""
    messages: Conversation = [{"role": "user", "content": first}]
    requests = [list(messages)]
    for question in ("What is the capital of France?", "And what is the capital of Chile?"):
        messages += [{"role": "assistant", "content": "Tokyo, Lima, Nairobi and Oslo."}]
        messages += [{"role": "user", "content": question}]
        requests.append(list(messages))
    return requests


@pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "sampled", "penalties"])
def test_later_turns_read_little_and_give_the_same_text(
    model: ChatModel, read: list[int], options: dict[str, Any]
) -> None:
    requests = turns(LONG_QUESTION)
    cached = [answer(model, messages, **options) for messages in requests]
    *first, second, third = read
    assert sum(first) > 150
    assert max(second, third) < 60
    read.clear()
    set_cache(model, 0)
    assert [answer(model, messages, **options) for messages in requests] == cached
    assert sum(read) > 3 * sum(first)


def test_system_prompt_is_read_once(model: ChatModel, read: list[int]) -> None:
    system = {"role": "system", "content": LONG_QUESTION}
    places = ("France", "Spain", "Italy")
    requests = [
        [system, {"role": "user", "content": f"What is the capital of {place}?"}]
        for place in places
    ]
    together = [each.text for each in model.generate(_chats(requests))]
    *first, second, third = read
    assert sum(first) > 150
    assert max(second, third) < 60
    set_cache(model, 0)
    assert [answer(model, messages) for messages in requests] == together


def _chats(conversations: Sequence[Conversation]) -> list[dict[str, Any]]:
    return [{"messages": messages} for messages in conversations]


def test_batch_beside_a_continued_conversation(
    model: ChatModel, read: list[int], questions: list[Conversation]
) -> None:
    first, second, _ = turns(LONG_QUESTION)
    requests = _chats([*questions[:4], second, *questions[4:7]])
    set_cache(model, 0)
    alone = [each.text for request in requests for each in model.generate([request])]
    set_cache(model, 100)
    answer(model, first)
    read.clear()
    assert [each.text for each in model.generate(requests)] == alone
    assert sum(read) < 60, "the conversation is continued, and the others are a batch"


def test_memory_is_bounded(model: ChatModel, read: list[int]) -> None:
    engine = model._engine
    conversations = [turns(f"{n}. {LONG_QUESTION}") for n in range(4)]
    for conversation in conversations:
        answer(model, conversation[0])
    wait_until_idle(model)
    kept = engine.cache.kept_bytes
    engine.cache.max_bytes = kept // 2
    read.clear()
    for conversation in conversations[::-1]:
        answer(model, conversation[1])
        wait_until_idle(model)
        assert 0 < engine.cache.kept_bytes <= kept // 2
    assert max(read[:2]) < 60
    assert sum(read[2:]) > 300, "the oldest conversations are read again"


@pytest.mark.parametrize("limit", ["can_rewind", "max_shared_length"])
def test_model_that_cannot_be_rewound_reads_everything(
    model: ChatModel, read: list[int], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    requests = turns(LONG_QUESTION)
    cached = [answer(model, messages) for messages in requests]
    monkeypatch.setattr(model._engine, limit, False if limit == "can_rewind" else 100)
    set_cache(model, 100)
    read.clear()
    assert [answer(model, messages) for messages in requests] == cached
    assert min(read) > 150, "as a whole"
    assert len(read) == 3


def test_schema_beside_the_cache(model: ChatModel, read: list[int]) -> None:
    requests = turns(LONG_QUESTION)
    schema = {"response_format": {"type": "json_object"}, "max_tokens": 30}
    texts = [
        answer(model, messages, **options) for messages in requests for options in ({}, schema)
    ]
    set_cache(model, 0)
    assert texts == [
        answer(model, messages, **options) for messages in requests for options in ({}, schema)
    ]


def test_cancelled_prompt_is_read_on_later(
    model: ChatModel, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LEAST_LONG_TOKENS", 64)
    monkeypatch.setattr(scheduler, "LONG_PART_S", 0.0)
    [first, *_] = turns(LONG_QUESTION)
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    active = model.prepare({"messages": first}, events.put)
    advance = RowPrefill.advance

    def cancel_first(prefill: RowPrefill, tokens: int) -> Any:
        if prefill.requests == [active] and len(read) == 1:
            active.cancel()
        return advance(prefill, tokens)

    monkeypatch.setattr(RowPrefill, "advance", cancel_first)
    model.submit([active])
    while not isinstance(completion := events.get(timeout=30), Completion):
        pass
    text = answer(model, first)
    assert completion.finish_reason == "cancelled"
    assert completion.usage["completion_tokens"] == 0
    assert sum(read) < len(active.prompt) + 64, "nothing is read twice"
    set_cache(model, 0)
    assert answer(model, first) == text


def test_stream_goes_on_between_parts(
    model: ChatModel, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "MOST_TOKENS", 32)
    monkeypatch.setattr(scheduler, "LEAST_LONG_TOKENS", 32)
    [messages, *_] = turns(LONG_QUESTION)
    # The penalty suppresses the end tokens, which are in the template.
    question = {"messages": [{"role": "user", "content": "What is the capital of Japan?"}]}
    stream = model.stream({**question, "repetition_penalty": 10.0, "max_tokens": 100})
    assert isinstance(next(stream), TextPiece)
    known = len(read)
    pieces: list[int] = []
    tokens_at = lambda: sum(len(each.generated) for each in streaming)  # noqa: E731
    streaming = [each for running in model._scheduler._running for each in running.requests]
    advance = RowPrefill.advance
    monkeypatch.setattr(
        RowPrefill, "advance", lambda *given: [pieces.append(tokens_at()), advance(*given)][1]
    )
    answer(model, messages)
    stream.close()
    assert len(read) - known > 4
    assert np.all(np.diff(pieces) == 1), "one token after each part"


@pytest.mark.parametrize("part", [16, 64, 112])
@pytest.mark.parametrize("tokens", [1, 2, 17, 34, 129, 200])
def test_parts_give_the_same_logits(model: ChatModel, tokens: int, part: int) -> None:
    text = np.random.default_rng(tokens).integers(3, 1000, tokens).tolist()
    whole, in_parts = logits(model, text, 10_000), logits(model, text, part)
    np.testing.assert_allclose(whole, in_parts, atol=1e-5)


def test_first_part_does_not_end_with_padding(model: ChatModel) -> None:
    """GenAI would take the token for padding, and the text would be another."""
    text = np.arange(3, 103)
    text[[15, 31, 63]] = model._engine.pad_token
    whole = logits(model, text.tolist(), 10_000)
    np.testing.assert_allclose(whole, logits(model, text.tolist(), 16), atol=1e-5)


def logits(model: ChatModel, text: list[int], part: int) -> Any:
    """Return the logits after a text that is read in parts."""
    set_cache(model, 0)
    request = active_request(1, 5)
    request.prompt = text
    prefill = RowPrefill(model._engine, request)
    while (batch := prefill.advance(part)) is None:
        pass
    logits = batch._generator.get_logits()
    batch.close()
    return logits


def test_completion_that_outgrows_its_memory(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch, questions: list[Conversation]
) -> None:
    """Alone, together and restarted, it is prefilled again at the same lengths."""
    monkeypatch.setattr(model._engine, "_first_new_tokens", 12)
    opened, open_for = list[int](), GenaiEngine._open_for

    def record(engine: GenaiEngine, requests: Any, length: int) -> Any:
        opened.append(length - max(each.read_length for each in requests))
        return open_for(engine, requests, length)

    monkeypatch.setattr(GenaiEngine, "_open_for", record)
    set_cache(model, 0)
    long = {"repetition_penalty": 10.0, "max_tokens": 60}
    requests = [{"messages": messages, **long} for messages in questions[:3]]
    alone = [each for request in requests for each in model.generate([request])]
    assert {each.usage["completion_tokens"] for each in alone} == {60}
    assert opened == [12, 12, 24, 12] * 3
    together = model.generate(requests)
    assert [each.text for each in together] == [each.text for each in alone]
    assert max(opened) == 24


def test_high_max_tokens_reserves_little(
    model: ChatModel, onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000,000 positions, whose KV caches would take 10 GB."""
    folder = Path(shutil.copytree(onnx, tmp_path / "long"))
    with edited_config(folder) as config:
        config["model"]["context_length"] = 2_000_000
    engine = GenaiEngine(folder)
    reserved, reserve = list[int](), engine.cache.reserve
    monkeypatch.setattr(
        engine.cache, "reserve", lambda size: [reserved.append(size), reserve(size)]
    )
    long = ChatModel(engine, TemplatePromptEncoder(folder), "long", DEFAULTS)
    messages = turns("What is the capital of Japan?")[0]
    requests = [{"messages": messages, "max_tokens": 1_900_000}, {"messages": messages}]

    texts = [each.text for request in requests for each in long.generate([request])]

    assert texts == [answer(model, messages)] * 2
    assert 0 < max(reserved) < 300e6


def test_long_completion_of_a_schema_keeps_its_form(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 30}
    format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    [messages, *_] = turns("Count.")
    options = {"response_format": format_, "max_tokens": 50}
    whole = answer(model, messages, **options)
    monkeypatch.setattr(model._engine, "_first_new_tokens", 12)
    assert answer(model, messages, **options) == whole
