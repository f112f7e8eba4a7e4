"""The generation settings of a checkpoint, read as transformers reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slmflow.checkpoints.files import CONFIG, read_json_object
from slmflow.errors import UserError
from slmflow.runtime.generation.checkpoint_settings import FILE, CheckpointSettings

# Settings that shape the answers of transformers' `generate` and that the sampler does not apply,
# with the test whether a value has an effect.
_UNSUPPORTED: dict[str, Callable[[Any], bool]] = {
    "num_beams": lambda value: value > 1,
    "num_beam_groups": lambda value: value > 1,
    "num_return_sequences": lambda value: value > 1,
    "constraints": bool,
    "force_words_ids": bool,
    "penalty_alpha": lambda value: value > 0,
    "dola_layers": bool,
    "guidance_scale": lambda value: value != 1,
    "watermarking_config": bool,
    "token_healing": bool,
    "encoder_repetition_penalty": lambda value: value != 1,
    "encoder_no_repeat_ngram_size": lambda value: value > 0,
    "forced_bos_token_id": lambda value: True,
    "stop_strings": bool,
    "max_time": lambda value: True,
}


def read(folder: Path, model: str) -> dict[str, Any]:
    """Return the values of generation_config.json that are not null; `model` is for messages.

    As in transformers, generation settings in config.json count only where that file is missing.
    """
    file = folder / FILE if (folder / FILE).is_file() else folder / CONFIG
    return {
        name: value for name, value in read_json_object(file, model).items() if value is not None
    }


def check(folder: Path, model: str, vocabulary_size: int | None) -> None:
    """Raise UserError, with all problems in one message, for values that transformers rejects."""
    try:
        CheckpointSettings.parse(read(folder, model), vocabulary_size or 2**31)
    except ValueError as error:
        file = FILE if (folder / FILE).is_file() else CONFIG
        raise UserError(
            "\n".join(f"{model}: {file} has {problem}" for problem in str(error).splitlines())
        ) from error


def unsupported(values: dict[str, Any]) -> dict[str, Any]:
    """Return those of the settings that the GenAI flavor does not honor, with their values."""
    return {
        name: values[name]
        for name, has_effect in _UNSUPPORTED.items()
        if name in values and _has_effect(has_effect, values[name])
    }


def _has_effect(has_effect: Callable[[Any], bool], value: Any) -> bool:
    try:
        return has_effect(value)
    except TypeError:  # no number: transformers will reject it
        return True
