"""The model without its weights, and the ONNX graph optimum's export traces from it.

Every parameter is one number, expanded to the parameter's shape without taking memory, so a model
of any size can be traced. In the graph the parameters are inputs under their own names.
"""

import copy
import inspect
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ShapeInferencePass

# Imported for its side effect: it registers optimum's export configurations.
from optimum.exporters.onnx import model_configs  # noqa: F401
from optimum.exporters.tasks import TasksManager
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from slmflow.console.messages import quiet
from slmflow.conversion.genai_builder import architecture
from slmflow.conversion.passes.graph import WEIGHT, Source
from slmflow.errors import UserError

TASK = "text-generation-with-past"


def check_exportable(weights: Path, config: PretrainedConfig) -> None:
    """Raise UserError, before any work, for an architecture that optimum has no export for."""
    supported = TasksManager.get_supported_model_type_for_task(TASK, exporter="onnx")
    if config.model_type not in supported:
        raise UserError(
            f"optimum cannot export {architecture(weights)} (model type {config.model_type}). "
            "Try exporter=builder, or another model"
        )


def weightless(original: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model on the meta device that runs, its parameters taking no memory.

    Tied parameters stay one. All values differ, lest the tracer take equal ones for one.
    """
    model: PreTrainedModel = copy.deepcopy(original).eval()
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in made:
                number = torch.tensor(1e-6 * (len(made) + 1)).expand(parameter.shape)
                made[parameter] = nn.Parameter(number, requires_grad=False)
            setattr(module, name, made[parameter])
    return model


def trace(model: PreTrainedModel) -> ir.Model:
    """Return the fp32 graph of a model with its KV cache, as optimum's export configuration has it.

    Inputs are input_ids, attention_mask, position_ids, past_key_values.N.key/value and all
    parameters; outputs logits and present.N.key/value.
    """
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model, task=TASK, library_name="transformers"
    )
    config = constructor(model.config, use_past=True, use_past_in_inputs=True)
    dummy = config.rename_ambiguous_inputs(config.generate_dummy_inputs(framework="pt"))
    # As optimum's own export calls the model: logits of all positions.
    keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    patched = config.patch_model_for_export(
        model, model_kwargs={"logits_to_keep": 0} if keeps else {}
    )
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad(), patched, _light():
        inputs = config.ordered_inputs(model)
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            model,
            (dummy,),
            f=str(file),
            input_names=list(inputs),
            output_names=list(config.outputs),
            dynamic_axes=dict(inputs | config.outputs),
            export_params=False,
            do_constant_folding=False,
            opset_version=config.DEFAULT_ONNX_OPSET,
            dynamo=False,
        )
        graph = ir.load(file)
    ShapeInferencePass(data_prop=True)(graph)
    _tell_apart(graph.graph, model)
    return graph


def _tell_apart(graph: ir.Graph, model: PreTrainedModel) -> None:
    """Mark the inputs that are parameters, and give those that are buffers their values."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = dict(model.named_buffers())
    for value in list(graph.inputs):
        if value.name in parameters:
            value.meta[WEIGHT] = Source(value.name)
        elif value.name in buffers:
            graph.inputs.remove(value)
            value.const_value = ir.tensor(buffers[value.name].numpy(), name=value.name)
            graph.register_initializer(value)


def _light() -> Any:
    """Infer the graph's shapes without the parameters' values.

    torch writes them all out for the inference, twice, although no shape depends on them: at
    Phi-3-mini's size that takes minutes and most of the memory, and gives the same graph.
    """
    infer = torch._C._jit_pass_onnx_graph_shape_type_inference

    def without_values(graph: Any, parameters: Any, opset: int) -> None:
        infer(graph, {}, opset)

    return mock.patch.object(torch._C, "_jit_pass_onnx_graph_shape_type_inference", without_values)
