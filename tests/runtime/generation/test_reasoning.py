"""Splitting reasoning off: whole, piece by piece, cut, and with other models' tags."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from slmflow.runtime.generation.detokenizer import CompletionText
from slmflow.runtime.generation.reasoning import (
    ReasoningFormat,
    ReasoningReader,
    ReasoningSplitter,
    SplitText,
    Tags,
)

THINK = Tags("<think>", "</think>")
OPENED = ReasoningFormat(opened=THINK)

# A completion, and its reasoning and answer, where the model itself opens the block.
COMPLETIONS = [
    ("<think>\nA capital.\n</think>\n\nParis.", "A capital.", "Paris."),
    ("\n<think>A</think>Paris.", "A", "Paris."),
    ("<think>\n\n</think>\n\nParis.", "", "Paris."),
    ("<think>A < B, so </thin or </Think>.</think>C", "A < B, so </thin or </Think>.", "C"),
    ("<think>A <think> B</think>C", "A <think> B", "C"),
    ("<think>A</think>B</think>C", "A", "B</think>C"),
    ("<think>cut", "cut", ""),
    ("<think>cut </thi", "cut </thi", ""),
    ("<think>", "", ""),
    ("Paris <think>A</think>.", "", "Paris <think>A</think>."),
    (" Paris.", "", " Paris."),
    ("<thinker> Paris", "", "<thinker> Paris"),
    ("<thi", "", "<thi"),
    ("", "", ""),
]


def split_in_pieces(format_: ReasoningFormat, pieces: list[str]) -> SplitText:
    splitter = ReasoningSplitter(format_)
    parts = [*map(splitter.push, pieces), splitter.flush()]
    return SplitText("".join(p.reasoning for p in parts), "".join(p.answer for p in parts))


@pytest.mark.parametrize(("text", "reasoning", "answer"), COMPLETIONS)
def test_completion_is_split_at_its_tags(text: str, reasoning: str, answer: str) -> None:
    assert ReasoningFormat().split(text) == SplitText(reasoning, answer)


@pytest.mark.parametrize(("text", "reasoning", "answer"), COMPLETIONS)
def test_pieces_join_to_the_whole_split(text: str, reasoning: str, answer: str) -> None:
    for size in range(1, len(text) + 1):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        joined = split_in_pieces(ReasoningFormat(), pieces)
        assert (joined.reasoning, joined.answer.lstrip()) == (reasoning, answer.lstrip())


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("\nA capital.\n</think>\n\nParis.", "A capital.", "Paris."),
        ("<think>\nA\n</think>Paris.", "A", "Paris."),  # the model repeats the prompt's tag
        ("</think>Paris.", "", "Paris."),
        ("cut in the middle", "cut in the middle", ""),
        ("", "", ""),
    ],
)
def test_completion_of_an_open_block_begins_with_reasoning(
    text: str, reasoning: str, answer: str
) -> None:
    assert OPENED.split(text) == SplitText(reasoning, answer)
    assert split_in_pieces(OPENED, list(text)).reasoning == reasoning


def test_lone_end_tag_counts_only_where_the_start_may_be_lost() -> None:
    text = "A capital.</think>\nParis."
    assert ReasoningFormat().split(text) == SplitText(answer=text)
    lenient = ReasoningFormat(may_lack_start=True)
    assert lenient.split(text) == SplitText("A capital.", "Paris.")
    assert lenient.split(" Paris.") == SplitText(answer=" Paris.")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<thi", "nk>", " ", "\n", "a", "</"])))
@settings(derandomize=True, deadline=None)
def test_no_text_is_lost_but_tags_and_white_space(pieces: list[str]) -> None:
    text = "".join(pieces)
    for format_ in (ReasoningFormat(), OPENED):
        split, joined = format_.split(text), split_in_pieces(format_, pieces)
        assert (joined.reasoning, joined.answer.lstrip()) == (
            split.reasoning,
            split.answer.lstrip(),
        )
        kept = "".join((split.reasoning + split.answer).split())
        assert kept in {
            "".join(each.split())
            for each in (
                text,
                text.replace("<think>", "", 1),
                text.replace("</think>", "", 1),
                text.replace("<think>", "", 1).replace("</think>", "", 1),
            )
        }


def test_format_of_a_logged_model_survives_json() -> None:
    format_ = ReasoningFormat((THINK, Tags("[THINK]", "[/THINK]")), opened=THINK)
    assert ReasoningFormat.from_json(format_.to_json()) == format_
    assert ReasoningFormat.from_json(ReasoningFormat().to_json()) == ReasoningFormat()


def word_tokenizer(special: list[str], plain: list[str]) -> Tokenizer:
    words = ["a", "b", ".", "?"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in special])
    tokenizer.add_tokens([AddedToken(each) for each in plain])
    return tokenizer


@pytest.mark.parametrize("tags", [THINK, Tags("[THINK]", "[/THINK]")])
@pytest.mark.parametrize("is_special", [False, True])
def test_tags_are_found_whether_special_tokens_or_not(tags: Tags, is_special: bool) -> None:
    names = [tags.start, tags.end]
    tokenizer = word_tokenizer(names if is_special else [], [] if is_special else names)
    ids = tokenizer.encode(f"{tags.start} a b {tags.end} b . {tags.end}").ids
    format_ = ReasoningReader(None, tokenizer).format([])
    text = CompletionText(tokenizer, (), ReasoningSplitter(format_))

    answer = "".join(text.push(token) for token in ids) + text.flush()

    assert text.take_reasoning().split() == ["a", "b"]
    assert answer.split() == (["b", "."] if is_special else ["b", ".", tags.end])


def test_tag_of_a_special_token_and_text_is_found() -> None:
    """As Gemma 4 writes it, and as its template opens and closes the block."""
    tags = Tags("<|channel>thought", "<channel|>")
    tokenizer = word_tokenizer(["<|channel>", "<channel|>"], ["thought"])
    tokenizer.decoder = decoders.Fuse()  # without spaces between the tokens
    reader = ReasoningReader("{{ '<|channel>thought\\n<channel|>' }}", tokenizer)
    ids = tokenizer.encode("<|channel> thought a b <channel|> b .").ids
    text = CompletionText(tokenizer, (), ReasoningSplitter(reader.format([])))

    answer = "".join(text.push(token) for token in ids) + text.flush()

    assert (text.take_reasoning(), answer) == ("ab", "b.")
    assert reader.format(ids[:2]).opened == tags
    assert reader.format(tokenizer.encode("<|channel> thought <channel|>").ids).opened is None


def test_other_models_tags_need_a_sign_of_them() -> None:
    """`[THINK]` in the answer of a model that has no such tag is text."""
    plain = word_tokenizer([], [])
    assert ReasoningReader(None, plain).format([]).tags == (THINK,)
    named = ReasoningReader("{{ m.split('[/THINK]') }}", plain).format([])
    assert named.tags == (THINK, Tags("[THINK]", "[/THINK]"))


@pytest.mark.parametrize(
    ("prompt", "template", "is_open"),
    [
        ("a <think>", "{{ '<think>' }}", True),
        ("a <think> </think>", "{{ '<think>' }}", False),
        ("a <think> b", "{{ '<think>' }}", False),
        ("a <think>", "{{ message }}", False),  # the user wrote it
    ],
)
def test_prompt_opens_a_block_by_its_template(prompt: str, template: str, is_open: bool) -> None:
    tokenizer = word_tokenizer(["<think>", "</think>"], [])
    format_ = ReasoningReader(template, tokenizer).format(tokenizer.encode(prompt).ids)
    assert format_.opened == (THINK if is_open else None)
    assert format_.closing == ("\n</think>\n\n" if is_open else "")


def test_stop_string_in_reasoning_has_no_effect() -> None:
    tokenizer = word_tokenizer([], ["<think>", "</think>"])
    ids = tokenizer.encode("<think> a . b </think> b . a").ids
    text = CompletionText(tokenizer, (".",), ReasoningSplitter(ReasoningFormat()))

    answer = "".join(text.push(token) for token in ids)

    assert text.take_reasoning() == "a . b"
    assert (answer, text.stopped) == ("b ", True)
