"""The end tokens of a checkpoint: all that its files name, whichever they stand in."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from slmflow.checkpoints import generation_settings
from slmflow.checkpoints.files import CONFIG, read_json_object, write_json
from slmflow.checkpoints.vocabulary import Vocabulary
from slmflow.errors import UserError
from slmflow.runtime.generation.checkpoint_settings import FILE
from slmflow.runtime.prompts.template import ChatTemplate

_KEY = "eos_token_id"
_QUESTION, _ANSWER = "What is the capital of France?", "It is Paris."
_TURNS = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]


def complete(folder: Path, model: str, vocabulary: Vocabulary) -> Iterator[str]:
    """Write all end tokens to generation_config.json, unless it has them; yield messages.

    Both flavors, and everybody who loads the checkpoint, then end answers at the same tokens: those
    of config.json and generation_config.json, the tokenizer's, and the one that ends a turn in the
    chat template. Raises UserError for values that are no token ids, and if there is no end token.
    """
    named = _named_tokens(folder, model, vocabulary)
    found = {token: source for token, source in named.items() if vocabulary.is_token(token)}
    if not found:
        raise UserError(
            f"{model} has no end token, so its answers would not end: "
            f"{_describe_missing(named, vocabulary)}. Set {_KEY} in {FILE} to the id of the token "
            "that ends an answer"
        )
    for token in named.keys() - found.keys():
        yield (
            f"{model}: {_KEY}={token} of {named[token]} is ignored: the model has no such token, "
            f"its vocab_size is {vocabulary.size}"
        )
    settings = generation_settings.read(folder, model)
    known = set(_ids(settings.get(_KEY), FILE, model))
    if known != found.keys():
        for token in found.keys() - known:
            yield f"{model}: answers also end at token {token}, as {found[token]} says"
        write_json(folder / FILE, {**_writable(folder, settings), _KEY: list(found)})


def _named_tokens(folder: Path, model: str, vocabulary: Vocabulary) -> dict[int, str]:
    """Return the ids of all named end tokens, each with its first source."""
    config = read_json_object(folder / CONFIG, model)
    text_config = config.get("text_config")
    nested = text_config.get(_KEY) if isinstance(text_config, Mapping) else None
    generation = folder / FILE
    values = {
        FILE: read_json_object(generation, model).get(_KEY) if generation.is_file() else None,
        CONFIG: config.get(_KEY),
        f"text_config in {CONFIG}": nested,
        "the tokenizer": vocabulary.ids.get(vocabulary.eos or ""),
        "the chat template": vocabulary.added.get(_end_of_turn(folder, vocabulary) or ""),
    }
    tokens: dict[int, str] = {}
    for source, value in values.items():
        for token in _ids(value, source, model):
            tokens.setdefault(token, source)
    return tokens


def _ids(value: Any, source: str, model: str) -> list[int]:
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(token) is int for token in ids):
        raise UserError(
            f"{model}: {_KEY}={value!r} in {source} must be a token id or a list of them"
        )
    return ids


def _end_of_turn(folder: Path, vocabulary: Vocabulary) -> str | None:
    """Return the token that the chat template writes after an answer, if it is one token.

    The token that opens an answer ends none: a template without end tokens may write it last.
    """
    try:
        text = ChatTemplate(folder).render(_TURNS, add_generation_prompt=False)
    except MlflowException:  # no template, or it rejects these messages
        return None
    before, _, after = text.partition(_ANSWER)
    after = after.lstrip()
    token = max(
        (each for each in vocabulary.added if after.startswith(each)), key=len, default=None
    )
    opening = max(vocabulary.added, key=before.rfind, default=None)
    return None if token == opening else token


def _writable(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what to write to generation_config.json besides end tokens: what it already means."""
    if (folder / FILE).is_file():
        return settings
    # Imported here, because few checkpoints lack the file, and the import takes seconds.
    from transformers import GenerationConfig

    return GenerationConfig.from_pretrained(
        folder, config_file_name=CONFIG, _from_model_config=True
    ).to_diff_dict()


def _describe_missing(named: Mapping[int, str], vocabulary: Vocabulary) -> str:
    if not named:
        return f"neither {CONFIG} nor {FILE} has {_KEY}, nor the tokenizer an eos_token"
    listed = ", ".join(f"{token} in {source}" for token, source in named.items())
    return f"{_KEY} is {listed}, but the ids of the model are 0 to {(vocabulary.size or 0) - 1}"
