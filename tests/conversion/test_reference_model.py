"""Loading the reference: folders that are no causal language models, and untied weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from slmflow.conversion import reference_model
from slmflow.conversion.proof import graph_variants
from slmflow.conversion.proof.graph_runtime import Runtime
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED, FUSED
from tests.conversion.conversions import convert


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": '{"model_type": "none-such"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "t5"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "phi3", "hidden_size": "wide"}'}, "cannot load the model"),
        ({"tokenizer.json": "{}"}, "transformers cannot load the model"),
        (
            {
                "config.json": '{"auto_map": {"AutoConfig": "code.Config"}, "model_type": "own"}',
                "code.py": "raise SystemExit('code of the model ran')",
            },
            "transformers cannot load the model",
        ),
    ],
)
def test_folder_without_a_language_model_is_rejected(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    for name, content in files.items():
        (folder / name).write_text(content)

    with pytest.raises(UserError, match=message):
        reference_model.load(folder)


def test_head_with_other_values_than_the_embedding_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = architectures.save_random_model(FUSED["llama"], tmp_path / "weights")
    tensors = load_file(weights / "model.safetensors")
    tensors["lm_head.weight"] = -tensors["model.embed_tokens.weight"]
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    row = architectures.prompt(9)

    convert(weights, tmp_path / "cpu_fp32", "cpu_fp32")

    with graph_variants.all_positions(tmp_path / "cpu_fp32") as graph:
        logits = Runtime(tmp_path / "cpu_fp32", graph).logits(row)
    expected = architectures.logits(architectures.load(weights), row)
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=0)
    assert "ties the word embeddings" in capsys.readouterr().err
