"""Write the generation settings of a checkpoint into the folder that the GenAI runtime loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmflow.checkpoints import generation_settings
from slmflow.checkpoints.files import write_json
from slmflow.console import messages
from slmflow.conversion.genai_builder import edited_config
from slmflow.runtime.generation.checkpoint_settings import FILE, NAMES, CheckpointSettings

# What ONNX Runtime GenAI itself can apply, for those who load the folder without slmflow.
_SEARCH = ("top_k", "repetition_penalty", "no_repeat_ngram_size", "min_length")
# Of these the checkpoint's own values, or transformers' defaults.
_SAMPLING = {"do_sample": False, "temperature": 1.0, "top_p": 1.0}
# Settings that the graph or its KV cache does not support.
_FIXED = {"num_beams": 1, "num_return_sequences": 1, "length_penalty": 1.0}


def write(weights: Path, folder: Path) -> dict[str, Any]:
    """Write generation_config.json, and the same settings into genai_config.json.

    The model builder takes settings from config.json, which transformers ignores beside a
    generation_config.json. Returns the settings that the GenAI flavor does not honor, with their
    values, after a warning that names them.
    """
    values = generation_settings.read(weights, str(weights))
    with edited_config(folder) as config:
        model = config["model"]
        settings = CheckpointSettings.parse(values, model["vocab_size"])
        model["eos_token_id"] = values.get("eos_token_id", model["eos_token_id"])
        config["search"] |= {
            **{name: getattr(settings, name) for name in _SEARCH},
            **{name: values.get(name, default) for name, default in _SAMPLING.items()},
            **_FIXED,
        }
    kept = ("eos_token_id", *NAMES)
    write_json(folder / FILE, {name: values[name] for name in kept if name in values})
    ignored = generation_settings.unsupported(values)
    if ignored:
        messages.warning(_describe(ignored))
    return ignored


def _describe(ignored: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{name}={value!r}" for name, value in ignored.items())
    return (
        f"the model's generation settings {listed} hold in the transformers flavor only, so the "
        "answers of the flavors can differ: remove them from generation_config.json, or compare "
        "with care"
    )
