"""End tokens of checkpoints whose files name different ones, or none."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from slmflow.checkpoints import end_tokens
from slmflow.checkpoints.vocabulary import Vocabulary
from slmflow.errors import UserError

# Ids 0 to 4, with one more in the tokenizer than in the model.
TOKENS = ["<s>", "</s>", "<|user|>", "<|end|>", "a", "<|new|>"]
SIZE = 5
TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)


def checkpoint(
    folder: Path,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
) -> Path:
    added = [{"id": i, "content": text} for i, text in enumerate(TOKENS) if text != "a"]
    files: dict[str, Any] = {
        "config.json": {"vocab_size": SIZE, **(config or {})},
        "tokenizer.json": {"added_tokens": added, "model": {"vocab": {"a": 4}}},
        "tokenizer_config.json": tokenizer or {},
    }
    if generation is not None:
        files["generation_config.json"] = generation
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def complete(folder: Path) -> tuple[set[int], list[str]]:
    """Return the end tokens that transformers then reads, and the messages."""
    messages = list(end_tokens.complete(folder, "MODEL", Vocabulary.read(folder, "MODEL")))
    name = "generation_config.json" if (folder / "generation_config.json").exists() else None
    config = GenerationConfig.from_pretrained(folder, config_file_name=name or "config.json")
    ids = config.eos_token_id
    return {ids} if isinstance(ids, int) else set(ids), messages


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": {"eos_token_id": 1}}, {1}),
        ({"generation": {"eos_token_id": [1, 3]}}, {1, 3}),
        ({"config": {"eos_token_id": 1}, "generation": {"eos_token_id": 3}}, {1, 3}),
        ({"config": {"text_config": {"eos_token_id": 1}}}, {1}),
        ({"config": {"eos_token_id": [1, 1]}, "generation": {"eos_token_id": None}}, {1}),
        ({"tokenizer": {"eos_token": "</s>"}}, {1}),
        ({"tokenizer": {"eos_token": {"content": "</s>"}}, "config": {"eos_token_id": 0}}, {0, 1}),
        ({"tokenizer": {"eos_token": "a"}}, {4}),
        ({"tokenizer": {"chat_template": TEMPLATE}}, {3}),
        ({"tokenizer": {"chat_template": TEMPLATE, "eos_token": "</s>"}}, {1, 3}),
        ({"config": {"eos_token_id": 5}, "generation": {"eos_token_id": [-1, 3]}}, {3}),
    ],
)
def test_all_named_tokens_end_an_answer(
    tmp_path: Path, files: dict[str, Any], expected: set[int]
) -> None:
    assert complete(checkpoint(tmp_path, **files))[0] == expected


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|user|>",  # opens a turn
        "{% for m in messages %}{{ m.content }}\n{% endfor %}",
        "{{ raise_exception('no') }}",
        "{{ messages[0].content }}",
    ],
)
def test_template_without_end_of_turn_adds_no_token(tmp_path: Path, template: str) -> None:
    files = {"config": {"eos_token_id": 1}, "tokenizer": {"chat_template": template}}
    assert complete(checkpoint(tmp_path, **files)) == ({1}, [])


def test_complete_checkpoint_is_left_as_it_is(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, generation={"eos_token_id": [3, 1]}, config={"eos_token_id": 1})
    before = (folder / "generation_config.json").read_bytes()
    assert complete(folder) == ({1, 3}, [])
    assert (folder / "generation_config.json").read_bytes() == before


def test_settings_are_kept_where_a_token_is_added(tmp_path: Path) -> None:
    folder = checkpoint(
        tmp_path,
        generation={"eos_token_id": 1, "repetition_penalty": 2.0},
        config={"eos_token_id": 3, "no_repeat_ngram_size": 3},
    )
    assert complete(folder)[1] == [
        "MODEL: answers also end at token 3, as config.json says",
    ]
    written = json.loads((folder / "generation_config.json").read_text())
    assert written == {"eos_token_id": [1, 3], "repetition_penalty": 2.0}


def test_settings_of_config_are_kept_where_it_was_the_only_file(tmp_path: Path) -> None:
    config = {"eos_token_id": 3, "no_repeat_ngram_size": 3, "bos_token_id": 0, "model_type": "phi3"}
    folder = checkpoint(tmp_path, config=config, tokenizer={"eos_token": "</s>"})
    before = GenerationConfig.from_pretrained(
        folder, config_file_name="config.json", _from_model_config=True
    )
    assert complete(folder)[0] == {1, 3}
    after = GenerationConfig.from_pretrained(folder)
    before.eos_token_id = after.eos_token_id
    assert after == before


def test_ignored_ids_are_named(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, config={"eos_token_id": [1, SIZE]})
    assert complete(folder)[1] == [
        "MODEL: eos_token_id=5 of config.json is ignored: the model has no such token, its "
        "vocab_size is 5"
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither config.json nor generation_config.json has eos_token_id, nor the tokenizer"),
        ({"config": {"eos_token_id": None}, "generation": {}}, "neither config.json nor gener"),
        ({"generation": {"eos_token_id": []}}, "neither config.json nor"),
        ({"config": {"eos_token_id": 5}}, "eos_token_id is 5 in config.json.*are 0 to 4.*Set eos"),
        ({"config": {"eos_token_id": "2"}}, "eos_token_id='2' in config.json must be a token id"),
        ({"config": {"eos_token_id": True}}, "eos_token_id=True in config.json must be a token"),
        ({"generation": {"eos_token_id": [1, None]}}, r"=\[1, None\] in generation_config.json"),
        ({"generation": {"eos_token_id": 1.0}}, "eos_token_id=1.0 in generation_config.json"),
        ({"tokenizer": {"eos_token": "unknown"}}, "neither config.json nor"),
    ],
)
def test_checkpoint_without_valid_end_token_is_rejected(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        complete(checkpoint(tmp_path, **files))


def test_tokens_that_the_model_lacks_are_announced(tmp_path: Path) -> None:
    vocabulary = Vocabulary.read(checkpoint(tmp_path), "MODEL")
    [warning] = vocabulary.warnings("MODEL")
    assert "'<|new|>', whose id is 5 while vocab_size is 5" in warning
