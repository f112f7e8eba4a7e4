"""Log-probabilities of completions and prompts, compared with transformers on the same weights."""

from collections.abc import Callable, Sequence
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.generation.events import (
    Completion,
    ReasoningPiece,
    TextPiece,
    TokenLogprob,
)
from slmflow.runtime.pyfunc import GenaiPyfunc
from tests.fixtures.bundled_model import Reference
from tests.fixtures.thinking_model import OPENED, Thinking, ThinkingModel
from tests.fixtures.thinking_model import QUESTION as PUZZLE

Conversation = list[dict[str, str]]

TEXT = "The capital of France"


def complete(model: GenaiPyfunc, requests: Sequence[dict[str, Any]]) -> list[Completion]:
    return model._chat_model.generate(requests)


def assert_equal_to_transformers(
    reference: Reference, prompt: list[int], completion: Completion, top: int, echo: bool = False
) -> None:
    """Compare all log-probabilities of a completion, which has its end token, or of its echo."""
    read = completion.logprobs
    generated = [each.token for each in (read[len(prompt) :] if echo else read)]
    ids = prompt + generated
    assert [each.token for each in read] == (ids if echo else generated)
    expected = reference.logprobs(ids)
    start = 0 if echo else len(prompt)
    for place, each in enumerate(read, start):
        if place == 0:
            assert each.logprob is None and each.top == ()
            continue
        values = expected[place - 1]
        assert each.logprob == pytest.approx(values[each.token], abs=1e-3)
        assert [chance.logprob for chance in each.top] == pytest.approx(
            np.sort(values)[::-1][:top].tolist(), abs=1e-3
        )
        assert [chance.logprob for chance in each.top] == pytest.approx(
            [values[chance.token] for chance in each.top], abs=1e-3
        )


@pytest.mark.parametrize("top", [0, 5, 20])
def test_those_of_completions_equal_transformers(
    bare: GenaiPyfunc, reference: Reference, top: int
) -> None:
    [completion] = complete(bare, [{"prompt": TEXT, "logprobs": top}])
    prompt = reference.tokenizer(TEXT).input_ids
    assert_equal_to_transformers(reference, prompt, completion, top)
    assert len(completion.logprobs) == completion.usage["completion_tokens"]
    assert completion.finish_reason == "stop"


def test_those_of_chats_equal_transformers(
    bare: GenaiPyfunc, reference: Reference, questions: list[Conversation]
) -> None:
    requests = [{"messages": each, "logprobs": True, "top_logprobs": 3} for each in questions]
    for question, completion in zip(questions, complete(bare, requests), strict=True):
        assert_equal_to_transformers(reference, reference.prompt(question), completion, top=3)
        ends = completion.finish_reason == "stop"
        assert len(completion.logprobs) == completion.usage["completion_tokens"] - ends
        joined = b"".join(bytes(each.bytes) for each in completion.logprobs).decode()
        assert joined.lstrip() == completion.text


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2.0, "seed": 4},
        {"repetition_penalty": 5.0},
        {"logit_bias": {"5": 100}, "max_tokens": 3},
        {"response_format": {"type": "json_object"}, "max_tokens": 12},
    ],
    ids=lambda options: next(iter(options)),
)
def test_they_are_those_of_the_model_itself(
    bare: GenaiPyfunc, reference: Reference, questions: list[Conversation], options: dict[str, Any]
) -> None:
    request = {"messages": questions[0], "logprobs": True, "top_logprobs": 2, **options}
    [completion] = complete(bare, [request])
    assert_equal_to_transformers(reference, reference.prompt(questions[0]), completion, top=2)
    greedy = [each.top[0].token == each.token for each in completion.logprobs]
    assert not all(greedy), "the options change the tokens"


@pytest.mark.parametrize("max_tokens", [0, 1, 30])
def test_those_of_prompts_equal_transformers(
    bare: GenaiPyfunc, reference: Reference, max_tokens: int
) -> None:
    """In one batch, and with an end token, whose prompt is read alone."""
    ids = reference.tokenizer(TEXT).input_ids
    end = min(reference.model.generation_config.eos_token_id)
    prompts = [ids, ids * 9, ids[:1], [*ids, end, end, *ids], [end], ids[:2]]
    requests = [
        {"prompt": prompt, "echo": True, "logprobs": 2, "max_tokens": max_tokens}
        for prompt in prompts
    ]
    for prompt, completion in zip(prompts, complete(bare, requests), strict=True):
        assert_equal_to_transformers(reference, prompt, completion, top=2, echo=True)
        generated = completion.usage["completion_tokens"]
        assert len(completion.logprobs) == len(prompt) + generated
        assert completion.usage["prompt_tokens"] == len(prompt)
        assert (generated == 0) == (max_tokens == 0)
        assert completion.text.startswith(reference.tokenizer.decode(prompt, True))


def test_echo_repeats_the_text(bare: GenaiPyfunc, reference: Reference) -> None:
    plain, echoed, alone = complete(
        bare,
        [
            {"prompt": TEXT},
            {"prompt": TEXT, "echo": True},
            {"prompt": TEXT, "echo": True, "max_tokens": 0},
        ],
    )
    assert echoed.text == TEXT + plain.text
    assert (alone.text, alone.finish_reason) == (TEXT, "length")
    assert alone.usage["completion_tokens"] == 0
    assert echoed.usage == plain.usage
    assert echoed.logprobs == ()


def test_prompt_may_fill_the_context_if_nothing_follows(bare: GenaiPyfunc) -> None:
    prompt = [370] * 512
    [completion] = complete(bare, [{"prompt": prompt, "echo": True, "max_tokens": 0}])
    assert completion.usage["prompt_tokens"] == 512
    with pytest.raises(MlflowException, match="context holds 512"):
        complete(bare, [{"prompt": prompt, "echo": True, "max_tokens": 1}])


def test_offsets_are_places_in_the_text(bare: GenaiPyfunc) -> None:
    for echo in (False, True):
        request = {"prompt": f"{TEXT} é 🙂", "echo": echo, "logprobs": 0, "max_tokens": 20}
        [completion] = complete(bare, [request])
        for each in completion.logprobs:
            if "\\x" not in each.text and each.text != "<|end|>":
                found = completion.text[each.offset :].lstrip()
                assert found.startswith(each.text.lstrip())


def test_prompt_is_read_beside_other_requests(
    bare: GenaiPyfunc, reference: Reference, questions: list[Conversation]
) -> None:
    ids = reference.tokenizer(TEXT).input_ids * 5
    scored = {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 1}
    requests = [{"messages": questions[0]}, scored, {"messages": questions[1]}]
    first, completion, last = complete(bare, requests)
    assert_equal_to_transformers(reference, ids, completion, top=1, echo=True)
    assert first.text == reference.text(reference.generate(questions[0], 48))
    assert last.text == reference.text(reference.generate(questions[1], 48))


def streamed(model: GenaiPyfunc, request: dict[str, Any]) -> tuple[list[Any], Completion]:
    *pieces, completion = model._chat_model.stream(request)
    return pieces, completion


def joined(pieces: Sequence[Any], kind: type) -> tuple[TokenLogprob, ...]:
    """Return those of the pieces of a kind, whose class is that of the model's own runtime."""
    wanted = [piece for piece in pieces if type(piece).__name__ == kind.__name__]
    return tuple(each for piece in wanted for each in piece.logprobs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"echo": True},
        {"stop": ["aris"]},
        {"stop": ["never", " is Paris.?"]},
        {"temperature": 2.0, "seed": 11},
    ],
)
def test_streams_have_them_with_their_text(bare: GenaiPyfunc, options: dict[str, Any]) -> None:
    request = {"prompt": TEXT, "logprobs": 1, "max_tokens": 20, **options}
    pieces, completion = streamed(bare, request)
    assert joined(pieces, TextPiece) == completion.logprobs
    assert "".join(piece.text for piece in pieces) == completion.text
    text = ""
    for piece in pieces:
        assert all(len(text) <= each.offset for each in piece.logprobs)
        text += piece.text
        assert all(each.offset <= len(text) for each in piece.logprobs)


def test_stop_string_cuts_them_off(bare: GenaiPyfunc) -> None:
    [whole] = complete(bare, [{"prompt": TEXT, "logprobs": 0}])
    [cut] = complete(bare, [{"prompt": TEXT, "logprobs": 0, "stop": "ris"}])
    assert cut.text == whole.text[: whole.text.index("ris")]
    assert cut.logprobs == tuple(each for each in whole.logprobs if each.offset < len(cut.text))


def test_reasoning_has_its_own(
    thinking_model: Callable[[Thinking], ThinkingModel], experiment: str
) -> None:
    model = thinking_model(Thinking(OPENED))
    uri = model.log(GenaiModel, experiment).model_uri
    bare = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    pieces, completion = streamed(bare, {"messages": PUZZLE, "logprobs": True})
    assert completion.reasoning and completion.text
    assert joined(pieces, ReasoningPiece) == completion.reasoning_logprobs
    assert joined(pieces, TextPiece) == completion.logprobs

    def text_of(logprobs: Sequence[TokenLogprob]) -> str:
        return b"".join(bytes(each.bytes) for each in logprobs).decode()

    assert text_of(completion.logprobs).strip() == completion.text.strip()
    assert text_of(completion.reasoning_logprobs).strip().startswith(completion.reasoning)
    assert text_of(completion.reasoning_logprobs).strip().endswith("</think>")
    chat = mlflow.pyfunc.load_model(uri).predict({"messages": PUZZLE, "logprobs": True})
    shaped = chat[0]["choices"][0]["logprobs"]
    assert len(shaped["content"]) == len(completion.logprobs)
    assert len(shaped["reasoning_content"]) == len(completion.reasoning_logprobs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"messages": [], "logprobs": 3}, "at least one message"),
        (
            {"messages": [{"role": "user", "content": "x"}], "logprobs": 3},
            "logprobs=3: must be true",
        ),
        ({"prompt": "x", "logprobs": True}, "logprobs=True: must be a whole number from 0 to 20"),
        ({"prompt": "x", "logprobs": 21}, "logprobs=21: must be a whole number from 0 to 20"),
        ({"prompt": "x", "echo": 1}, "echo=1: must be true or false"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens=0: must be"),
        ({"prompt": [370, -1]}, "-1 is not a token id"),
        ({"prompt": [370, True]}, "True is not a token id"),
        ({"prompt": [370, 10**6]}, "only 1024 tokens"),
        ({"prompt": []}, "no tokens"),
        ({"prompt": "x", "logit_bias": {"1024": 1}}, "token 1024 is not in the vocabulary"),
        ({"prompt": "x", "logit_bias": {"-1": 1}}, "'-1' is not a token id"),
        ({"prompt": "x", "logit_bias": {"1": 101}}, "101 must be a number from -100 to 100"),
        ({"prompt": "x", "logit_bias": [1]}, "must be an object"),
        ({"prompt": "x", "min_p": 1.5}, "min_p=1.5: must be between 0 and 1"),
    ],
)
def test_invalid_options_are_named(
    bare: GenaiPyfunc, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(MlflowException, match=message):
        complete(bare, [options])


def test_top_logprobs_need_logprobs(bare: GenaiPyfunc, questions: list[Conversation]) -> None:
    for value in (1, 21, True):
        with pytest.raises(MlflowException, match=f"top_logprobs={value}"):
            complete(bare, [{"messages": questions[0], "top_logprobs": value}])


def test_guidance_excludes_what_it_cannot_do(bare: GenaiPyfunc) -> None:
    request = {"prompt": TEXT, "response_format": {"type": "json_object"}}
    for options in ({"echo": True, "logprobs": 1}, {"min_p": 0.1, "temperature": 1.0}):
        with pytest.raises(MlflowException, match="cannot be combined with response_format"):
            complete(bare, [{**request, **options}])


def test_bias_forces_and_forbids_tokens(bare: GenaiPyfunc, reference: Reference) -> None:
    ids = reference.tokenizer(TEXT).input_ids
    [first, *_] = reference.continue_prompt(ids, 1)
    for bias, expected in (({"5": 100}, True), ({str(first): -100}, False)):
        request = {"prompt": TEXT, "max_tokens": 1, "logprobs": 0, "logit_bias": bias}
        [completion] = complete(bare, [request])
        token = completion.logprobs[0].token
        assert token == 5 if expected else token != first
