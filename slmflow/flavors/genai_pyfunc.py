"""Log a GenAI folder as an MLflow model: code, signature, example, requirements."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Object, Property, Schema

from slmflow.checkpoints import chat_template
from slmflow.config.schema.generation import Generation, Interface
from slmflow.console import messages
from slmflow.console.library_output import silence
from slmflow.flavors import log_model
from slmflow.flavors.chat_interfaces import BASE_MODEL_METADATA
from slmflow.flavors.pins import pin_installed
from slmflow.flavors.provenance import Provenance
from slmflow.pipeline import run_links, source_code
from slmflow.pipeline.results import GenaiModel
from slmflow.runtime.request_fields import REASONING_EFFORT, TEMPLATE_VARIABLES
from slmflow.runtime.tools import declarations

# By name, so that the key of the logged model covers their source.
_CODE = source_code.path("slmflow.flavors.genai_model")
_RUNTIME = source_code.path("slmflow.runtime").parent
ARTIFACTS_FOLDER = "artifacts"
"""Folder inside the model where MLflow puts its `artifacts`."""

# MLflow drops fields that the signature lacks, with a mere warning. These extend `llm/v1/chat`:
# the last ones are listed so that the model can reject them by name, the others are supported.
_EXTRA_FIELDS: dict[str, DataType | AnyType] = {
    "adapter": DataType.string,
    "seed": DataType.long,
    "repetition_penalty": DataType.double,
    "min_p": DataType.double,
    "logit_bias": AnyType(),
    "logprobs": DataType.boolean,
    "top_logprobs": DataType.long,
    "response_format": AnyType(),
    TEMPLATE_VARIABLES: AnyType(),
    # Of any JSON schema; that of `llm/v1/chat` has no nested parameters.
    **{name: AnyType() for name in declarations.FIELDS},
    **{
        name: AnyType()
        for name in (
            *("functions", "function_call"),
            *("max_completion_tokens", "max_new_tokens"),
            *("enable_thinking", REASONING_EFFORT),
        )
    },
}
_MESSAGES: Any
_MESSAGES, *_OPTIONS = CHAT_MODEL_INPUT_SCHEMA.inputs
# An assistant's turn may have its reasoning, which some templates write into the prompt.
_REASONING = Property("reasoning_content", DataType.string, required=False)
_CHAT_INPUT = Schema(
    [
        ColSpec(Array(Object([*_MESSAGES.type.dtype.properties, _REASONING])), _MESSAGES.name),
        *(option for option in _OPTIONS if option.name not in _EXTRA_FIELDS),
        *(ColSpec(kind, name, required=False) for name, kind in _EXTRA_FIELDS.items()),
    ]
)
_SIGNATURES = {
    Interface.chat: ModelSignature(_CHAT_INPUT, CHAT_MODEL_OUTPUT_SCHEMA),
    Interface.prompt: log_model.PROMPT_SIGNATURE,
}
_EXAMPLES = {
    Interface.chat: log_model.CHAT_EXAMPLE,
    Interface.prompt: {"prompt": "What is the capital of France?"},
}
_METADATA = {Interface.chat: {"task": "llm/v1/chat"}, Interface.prompt: None}


def log(
    folder: Path,
    provenance: Provenance,
    model_name: str,
    interface: Interface,
    generation: Generation,
    runtime: str,
    name: str = GenaiModel.flavor,
) -> GenaiModel:
    """Log the model in `folder` to the active run.

    A base model, which has no chat template, gets the prompt interface. model_name: field `model`
    of each response; generation: defaults for requests that leave options out; runtime: the pip
    package that runs the model where it is served; name: of the logged model.
    """
    is_base_model = chat_template.is_missing(folder)
    if is_base_model:
        interface = Interface.prompt
        messages.info("the model has no chat template: its signature is `prompt: string -> string`")
    with silence():  # MLflow's warnings (no licence on the hub, no pip to pin) need no action
        info = log_model.log_with_provenance(
            mlflow.pyfunc,
            provenance,
            name=log_model.valid_name(name),
            tags={run_links.FLAVOR_TAG: GenaiModel.flavor},
            flavor_name="pyfunc.ModelFromCode",
            python_model=str(_CODE),
            code_paths=[str(_RUNTIME)],
            artifacts={"model": str(folder)},
            model_config={
                "model_name": model_name,
                "interface": interface.value,
                "max_new_tokens": generation.max_new_tokens,
                "temperature": generation.temperature,
                "top_p": generation.top_p,
                "template": generation.template,
            },
            signature=_SIGNATURES[interface],
            input_example=log_model.PROMPT_EXAMPLE if is_base_model else _EXAMPLES[interface],
            pip_requirements=pip_requirements(runtime),
            metadata=BASE_MODEL_METADATA if is_base_model else _METADATA[interface],
        )
    return GenaiModel.from_info(info)


def pip_requirements(runtime: str) -> list[str]:
    """Return exact pins of the packages that the model's code imports, at the installed versions.

    A GPU runtime need not be installed here: it gets the version of the CPU package, unless
    `runtime` includes one.
    """
    pins = pin_installed("mlflow", "numpy", "pandas", "tokenizers", "jinja2", "joblib")
    cpu, *onnxruntime = pin_installed("onnxruntime-genai", "onnxruntime")
    if runtime == "onnxruntime-genai":
        return [*pins, cpu, *onnxruntime]
    # The GPU packages depend on an ONNX Runtime package of another name.
    return [*pins, runtime if "==" in runtime else cpu.replace("onnxruntime-genai", runtime)]
