"""The generation settings of a checkpoint, as transformers reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from slmflow.checkpoints import generation_settings
from slmflow.errors import UserError
from slmflow.runtime.generation.checkpoint_settings import NAMES


def write(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize("has_generation_config", [True, False])
def test_settings_come_from_the_file_that_transformers_reads(
    tmp_path: Path, has_generation_config: bool
) -> None:
    write(tmp_path, "config.json", no_repeat_ngram_size=3, repetition_penalty=None)
    if has_generation_config:
        write(tmp_path, "generation_config.json", repetition_penalty=2.0, top_k=None)
    read = generation_settings.read(tmp_path, "MODEL")
    name = "generation_config.json" if has_generation_config else "config.json"
    expected = GenerationConfig.from_pretrained(tmp_path, config_file_name=name).to_diff_dict()
    expected.pop("transformers_version")
    assert read == expected


def test_invalid_settings_are_named_with_their_file(tmp_path: Path) -> None:
    write(tmp_path, "config.json")
    write(tmp_path, "generation_config.json", repetition_penalty=-1.0, suppress_tokens=[1, "2"])
    with pytest.raises(UserError) as raised:
        generation_settings.check(tmp_path, "MODEL", 10)
    assert str(raised.value).splitlines() == [
        "MODEL: generation_config.json has repetition_penalty=-1.0: must be a number above 0",
        "MODEL: generation_config.json has suppress_tokens=[1, '2']: must be a list of token ids",
    ]


def test_settings_that_the_sampler_lacks_are_listed() -> None:
    honored = {"repetition_penalty": 2.0, "num_beams": 1, "guidance_scale": 1.0, "do_sample": True}
    ignored = {"num_beams": 4, "guidance_scale": 1.5, "stop_strings": ["END"], "max_time": 2.0}
    assert generation_settings.unsupported(honored) == {}
    assert generation_settings.unsupported(honored | ignored) == ignored


def test_every_setting_of_transformers_is_known() -> None:
    without_effect_on_answers = {
        *("max_length", "max_new_tokens", "do_sample", "temperature", "top_p"),  # requests decide
        *("early_stopping", "length_penalty", "diversity_penalty"),  # only with beams
        *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
        *("renormalize_logits", "use_cache", "cache_implementation", "cache_config"),
        *("max_cache_len", "prefill_chunk_size", "compile_config", "disable_compile"),
        *("continuous_batching_config", "low_memory", "return_dict_in_generate"),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "use_mtp"),
        *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind"),
        *("assistant_ensemble_weight", "target_lookbehind", "speculation_type"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size", "transformers_version"),
    }
    names = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    known = {*NAMES, *generation_settings._UNSUPPORTED}
    assert names - without_effect_on_answers == known
