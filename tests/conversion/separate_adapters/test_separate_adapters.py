"""One graph with several adapters, beside the models that peft merges."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config import compose as configs
from slmflow.conversion import optimum_export, reference_model
from slmflow.conversion.calibration.preparation import PreparedTensors
from slmflow.conversion.proof import exact_proof, graph_variants
from slmflow.conversion.proof.runtime_process import Call, run_calls
from slmflow.conversion.record import ConversionRecord
from slmflow.conversion.separate_adapters.files import AdaptedWeights, GraphAdapter
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.fixtures import lora_adapters
from tests.fixtures.adapted_model import Adapters, ask
from tests.fixtures.bundled_model import Reference

LOGITS_TOLERANCE = 1e-4


def _logits(folder: Path, ids: Sequence[int], adapter: str | None) -> np.ndarray:
    with graph_variants.all_positions(folder) as graph:
        (logits,) = run_calls(folder, graph, [Call("logits", [list(ids)])], adapter)
    return logits


@pytest.mark.parametrize("name", [None, "atlantis", "wonderland"])
def test_logits_are_those_of_the_merged_model(
    separate: Path, adapters: Adapters, reference: Reference, name: str | None
) -> None:
    expected = adapters.merged(name) if name else reference
    ids = expected.prompt(ask("Atlantis"))
    with torch.no_grad():
        theirs = expected.model(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(_logits(separate, ids, name) - theirs).max() < LOGITS_TOLERANCE


def test_record_has_the_difference_with_each_adapter(separate: Path) -> None:
    record = ConversionRecord.read(separate)
    assert set(record.adapters) == {"atlantis", "wonderland"}
    assert all(0 < difference < LOGITS_TOLERANCE for difference in record.adapters.values())
    assert "parity.exact_max_abs_diff.atlantis" in record.metrics()


def test_matrices_are_optional_inputs_of_any_rank(separate: Path) -> None:
    graph = onnx.load(separate / "model.onnx", load_external_data=False).graph
    shapes = {
        value.name: [size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in graph.input
    }
    path = "model.layers.0.mlp.gate_up_proj"
    assert shapes[f"{path}.lora_A"] == [192, f"{path}.rank"]
    # The pass `projections` has split this weight.
    assert shapes[f"{path}.lora_B.0"] == shapes[f"{path}.lora_B.384"] == [f"{path}.rank", 384]
    defaults = {each.name: list(each.dims) for each in graph.initializer}
    assert defaults[f"{path}.lora_A"] == [192, 0]


def test_adapter_follows_the_scales_of_calibration(adapters: Adapters) -> None:
    model = reference_model.load(lora_adapters.BUNDLED).model
    path = "model.layers.0.mlp.down_proj"
    rows, columns = torch.rand(192) + 0.5, torch.rand(384) + 0.5
    changes = {f"rows {path}.weight": rows, f"columns {path}.weight": columns}
    plain = CheckpointTensors.for_model(lora_adapters.BUNDLED, model)
    prepared = PreparedTensors(plain, changes)
    adapter = LoraAdapter.read(adapters.atlantis, "atlantis")
    merged = CheckpointTensors.for_model(lora_adapters.BUNDLED, model, adapter)

    adapted = AdaptedWeights(prepared, GraphAdapter("atlantis", adapter, prepared))

    expected = rows[:, None] * merged[f"{path}.weight"] * columns
    torch.testing.assert_close(adapted[f"{path}.weight"], expected)
    other = "model.layers.1.mlp.down_proj.weight"
    torch.testing.assert_close(adapted[other], merged[other])


@pytest.mark.long
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3", "phi"])
def test_other_architectures_are_proven_with_an_adapter(name: str, tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "onnx"
    folder.mkdir()
    architectures.save_random_model(architectures.FUSED[name], base)
    adapter = _random_adapter(base, tmp_path / "adapter")
    target = configs.load(["target=cpu_fp32"]).target
    reference = reference_model.load(base)
    checkpoint = CheckpointTensors.for_model(base, reference.model)
    exported = optimum_export.export(
        base, reference, checkpoint, folder, target, [], tmp_path, {"random": adapter}
    )
    prompts = [architectures.prompt(length, seed=length) for length in (5, 11)]
    [graph_adapter] = exported.adapters
    with_adapter = exact_proof.prove(exported, reference, folder, target, prompts, graph_adapter)
    assert max(with_adapter, exact_proof.prove(exported, reference, folder, target, prompts)) < 1e-3
    (ours,) = run_calls(folder, "model.onnx", [Call("logits", [prompts[1]])], "random")
    theirs = architectures.logits(lora_adapters.merged(tmp_path / "adapter", base), prompts[1])
    assert np.abs(ours[-1] - theirs[-1]).max() < 1e-3


@pytest.mark.long
def test_calibrated_model_is_proven_with_an_adapter(adapters: Adapters, tmp_path: Path) -> None:
    from slmflow.conversion.convert import convert_model

    config = configs.load(["target=cpu_int4"])
    separate = {"atlantis": adapters.atlantis}
    convert_model(
        lora_adapters.BUNDLED,
        tmp_path,
        config.target,
        config.exporter.name,
        config.calibration,
        separate=separate,
    )
    assert 0 < ConversionRecord.read(tmp_path).adapters["atlantis"] < LOGITS_TOLERANCE


def test_adapter_of_another_model_is_rejected(adapters: Adapters, tmp_path: Path) -> None:
    from slmflow.conversion.convert import convert_model

    base = architectures.save_random_model(architectures.FUSED["llama"], tmp_path / "base")
    config = configs.load(["target=cpu_fp32"])
    with pytest.raises(UserError, match=r"atlantis does not fit: .*qkv_proj is missing"):
        convert_model(
            base,
            tmp_path,
            config.target,
            config.exporter.name,
            config.calibration,
            separate={"atlantis": adapters.atlantis},
        )


def _random_adapter(base: Path, folder: Path) -> LoraAdapter:
    import peft
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    lora_adapters.randomize(peft.get_peft_model(model, config)).save_pretrained(folder)
    return LoraAdapter.read(folder, "random")
