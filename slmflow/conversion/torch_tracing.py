"""Trace a PyTorch model without its weights into the ONNX graph that optimum's export writes.

Each parameter is a single number expanded to the parameter's shape, which takes no memory, so a
model of any size can be traced. In the graph the parameters are inputs under their own names.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ShapeInferencePass
from optimum.exporters.tasks import TasksManager
from torch import nn
from transformers import PreTrainedModel

from slmflow.console.library_output import silence
from slmflow.conversion.export_config import BACKEND, TASK, cache_as_tensors
from slmflow.conversion.passes.graph import WEIGHT, WeightSource


def make_traceable(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model on the meta device whose parameters have values but no memory.

    Tied parameters stay tied. All values differ, because the tracer merges equal ones.
    """
    traceable: PreTrainedModel = copy.deepcopy(model).eval()
    replacements: dict[nn.Parameter, nn.Parameter] = {}
    for module in traceable.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in replacements:
                number = torch.tensor(1e-6 * (len(replacements) + 1)).expand(parameter.shape)
                replacements[parameter] = nn.Parameter(number, requires_grad=False)
            setattr(module, name, replacements[parameter])
    return traceable


def trace(model: PreTrainedModel) -> ir.Model:
    """Trace a model with KV cache in fp32 by optimum's export configuration.

    Inputs: input_ids, attention_mask, position_ids, past_key_values.N.key/value and all parameters;
    outputs: logits and present.N.key/value.
    """
    constructor = TasksManager.get_exporter_config_constructor(
        BACKEND, model, task=TASK, library_name="transformers"
    )
    config = constructor(model.config)
    with (
        tempfile.TemporaryDirectory() as folder,
        silence(),
        torch.no_grad(),
        cache_as_tensors(model),
        _infer_shapes_without_values(),
        _repeat_by_expansion(),
    ):
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            model,
            (config.generate_dummy_inputs(),),
            f=str(file),
            input_names=list(config.flat_inputs),
            output_names=list(config.outputs),
            dynamic_axes=config.flat_inputs | config.outputs,
            export_params=False,
            do_constant_folding=False,
            opset_version=config.OPSET,
            dynamo=False,
        )
        graph = ir.load(file)
    ShapeInferencePass(data_prop=True)(graph)
    _separate_weights_and_buffers(graph.graph, model)
    return graph


def _separate_weights_and_buffers(graph: ir.Graph, model: PreTrainedModel) -> None:
    """Mark the inputs that are parameters; turn those that are buffers into initializers."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = dict(model.named_buffers())
    for value in list(graph.inputs):
        if value.name in parameters:
            value.meta[WEIGHT] = WeightSource(value.name)
        elif value.name in buffers:
            graph.inputs.remove(value)
            value.const_value = ir.tensor(buffers[value.name].numpy(), name=value.name)
            graph.register_initializer(value)


def _infer_shapes_without_values() -> Any:
    """Patch torch to infer the graph's shapes without the parameters' values.

    torch serializes all values for the inference, twice, although no shape depends on them. For
    Phi-3-mini that takes minutes and most of the memory, and gives the same graph.
    """
    name = "_jit_pass_onnx_graph_shape_type_inference"
    infer = getattr(torch._C, name)
    return mock.patch.object(torch._C, name, lambda graph, _, opset: infer(graph, {}, opset))


def _repeat_by_expansion() -> Any:
    """Patch torch to repeat elements in operations that its exporter can write.

    The exporter loses the rank of a tensor repeated along an axis of unknown length, such as the
    angles of an interleaved rotary embedding.
    """
    original = torch.Tensor.repeat_interleave

    def repeat(tensor: torch.Tensor, repeats: Any, dim: int | None = None, **more: Any) -> Any:
        if dim != -1 or not isinstance(repeats, int):
            return original(tensor, repeats, dim, **more)
        expanded = tensor.unsqueeze(-1).expand(*[-1] * tensor.ndim, repeats)
        return expanded.flatten(-2)

    return mock.patch.object(torch.Tensor, "repeat_interleave", repeat)
