"""Notes on ONNX Runtime GenAI's own tokenizer."""

import json
import shutil
from pathlib import Path

from transformers import AutoTokenizer

from slmflow.conversion.proof import genai_tokenizer, tokenization
from tests.conversion.architectures import BUNDLED

# The runtime reads the type of the model from it.
CONFIG = {
    "model": {
        "type": "phi3",
        **{"bos_token_id": 1, "eos_token_id": 1013, "pad_token_id": 1013, "vocab_size": 1024},
        **{"context_length": 512, "decoder": {}},
    },
    "search": {},
}


def _folder(path: Path) -> Path:
    shutil.copytree(BUNDLED, path, ignore=shutil.ignore_patterns("*.safetensors"))
    (path / "genai_config.json").write_text(json.dumps(CONFIG))
    return path


def test_equal_tokenizer_has_no_note(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")
    probes = tokenization.build_probes(AutoTokenizer.from_pretrained(folder))

    assert genai_tokenizer.describe_differences(folder, probes) is None


def test_unreadable_tokenizer_is_noted(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")
    probes = tokenization.build_probes(AutoTokenizer.from_pretrained(folder))
    (folder / "tokenizer.json").write_text("{}")

    note = genai_tokenizer.describe_differences(folder, probes)

    assert note is not None
    assert note.startswith("ONNX Runtime GenAI's own tokenizer cannot read this model's (")
