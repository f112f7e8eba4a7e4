"""Parity against an independent computation by torch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from slmflow.conversion.proof import graph_variants, parity, reference_logits
from slmflow.conversion.proof.probes import build_prompts
from slmflow.conversion.proof.runtime_process import Call, run_calls
from tests.conversion.architectures import BUNDLED
from tests.conversion.conversions import convert


def test_parity_equals_torchs_computation(tmp_path: Path) -> None:
    """The converted model is a perturbed one; the reference is the bundled one."""
    perturbed, folder = tmp_path / "perturbed", tmp_path / "onnx"
    reference = reference_model.load(BUNDLED)
    model = AutoModelForCausalLM.from_pretrained(BUNDLED)
    with torch.no_grad():
        model.lm_head.weight += 0.01 * torch.randn(
            model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    shutil.copytree(BUNDLED, perturbed)
    model.save_pretrained(perturbed)
    convert(perturbed, folder, "cpu_fp32")
    prompts = build_prompts(reference.tokenizer, ["What is the capital of France?", "Hello"])
    checkpoint = CheckpointTensors.for_model(BUNDLED, reference.model)
    logits = reference_logits.compute(reference.model, checkpoint, prompts)

    calls = [Call("logits", [prompt]) for prompt in prompts]
    with graph_variants.all_positions(folder) as graph:
        measured = parity.measure(logits, run_calls(folder, graph, calls), "perturbed", 0)

    original = AutoModelForCausalLM.from_pretrained(BUNDLED)
    divergences, differences = [], []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            a, b = original(ids).logits[0].double(), model(ids).logits[0].double()
        differences.append(float((a - b).abs().max()))
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        divergences += torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert measured.max_abs_diff == pytest.approx(max(differences), abs=1e-4)
    assert measured.mean_kl == pytest.approx(float(np.mean(divergences)), rel=1e-3)
    assert not (folder / graph).exists()
