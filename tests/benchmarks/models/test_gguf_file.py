"""The GGUF file against transformers; runs only if llama.cpp is installed."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.models.random_models import BUNDLED
from tests.conversion.architectures import FUSED, save_random_model

gguf = pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")


@pytest.mark.parametrize("architecture", ["phi3", "llama"])
def test_llama_cpp_logits_equal_transformers(tmp_path: Path, architecture: str) -> None:
    from benchmarks.models import gguf_file

    folder = BUNDLED
    if architecture == "llama":  # two query heads for each key, and a tied LM head
        folder = tmp_path / "llama"
        config = copy.deepcopy(FUSED["llama"])
        config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        save_random_model(config, folder)
    file = tmp_path / "model.gguf"
    gguf_file.write_gguf(folder, file, gguf.GGMLQuantizationType.F32)
    prompt = [int(i) for i in np.random.default_rng(0).integers(3, 1013, 100)]

    llama = llama_cpp.Llama(
        str(file),
        n_ctx=128,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    llama.eval(prompt)

    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        expected = model(torch.tensor([prompt])).logits[0].numpy()
    assert np.abs(llama.scores[: len(prompt)] - expected).max() < 1e-3
