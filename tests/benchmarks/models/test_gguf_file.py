"""The GGUF file against transformers; runs only if llama.cpp is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.models.random_models import BUNDLED

gguf = pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")


def test_llama_cpp_logits_equal_transformers(tmp_path: Path) -> None:
    from benchmarks.models import gguf_file

    file = tmp_path / "model.gguf"
    gguf_file.write_gguf(BUNDLED, file, gguf.GGMLQuantizationType.F32)
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
        model = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)
        expected = model(torch.tensor([prompt])).logits[0].numpy()
    assert np.abs(llama.scores[: len(prompt)] - expected).max() < 1e-3
