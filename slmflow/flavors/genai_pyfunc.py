"""A GenAI folder to a logged MLflow model: code, signature, example, requirements."""

from pathlib import Path

import mlflow
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

from slmflow.config.schema.generation import Generation, Interface
from slmflow.console.messages import quiet
from slmflow.flavors import log_model
from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.pins import installed
from slmflow.flavors.provenance import Provenance

_CODE = Path(__file__).with_name("genai_model.py")
_RUNTIME = Path(__file__).parents[1] / "runtime"
ARTIFACTS = "artifacts"
"""Where MLflow puts what it is given as `artifacts`, in the model."""

_QUESTION = "What is the capital of France?"

# MLflow drops whatever a signature does not have, and only warns. These are beyond `llm/v1/chat`:
# the first are honoured, the others, whatever they hold, there to be refused by name.
_FURTHER: dict[str, DataType | AnyType] = {
    "seed": DataType.long,
    "repetition_penalty": DataType.double,
    "response_format": AnyType(),
    **{
        name: AnyType()
        for name in (
            *("tool_choice", "parallel_tool_calls", "functions", "function_call"),
            *("logit_bias", "logprobs", "top_logprobs"),
            *("max_completion_tokens", "max_new_tokens", "min_p"),
        )
    },
}
_CHAT_INPUT = Schema(
    [
        *CHAT_MODEL_INPUT_SCHEMA.inputs,
        *(ColSpec(kind, name, required=False) for name, kind in _FURTHER.items()),
    ]
)
_SIGNATURES = {
    Interface.chat: ModelSignature(_CHAT_INPUT, CHAT_MODEL_OUTPUT_SCHEMA),
    Interface.prompt: ModelSignature(
        Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string")])
    ),
}
_EXAMPLES = {
    Interface.chat: {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 32},
    Interface.prompt: {"prompt": _QUESTION},
}
_METADATA = {Interface.chat: {"task": "llm/v1/chat"}, Interface.prompt: None}


def log(
    folder: Path,
    provenance: Provenance,
    model_name: str,
    interface: Interface,
    generation: Generation,
    runtime: str,
) -> GenaiModel:
    """Log the model in `folder` to the active run and return where it is.

    `model_name` is what answers name as their model; `generation` holds for requests that do not
    say; `runtime` is the package that runs the model where it is served.
    """
    with quiet():  # of no use: there is no licence at the hub, no pip to pin
        info = log_model.log(
            mlflow.pyfunc,
            provenance,
            name=GenaiModel.flavor,
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
            },
            signature=_SIGNATURES[interface],
            input_example=_EXAMPLES[interface],
            pip_requirements=requirements(runtime),
            metadata=_METADATA[interface],
        )
    return GenaiModel.of(info)


def requirements(runtime: str) -> list[str]:
    """Return the exact pins of what the model's code imports, at the versions installed here.

    The runtime of a GPU need not be installed here: its package has the version of the CPU's,
    unless `runtime` gives one.
    """
    pins = installed("mlflow", "numpy", "pandas", "tokenizers", "jinja2", "joblib")
    cpu, *onnxruntime = installed("onnxruntime-genai", "onnxruntime")
    if runtime == "onnxruntime-genai":
        return [*pins, cpu, *onnxruntime]
    # The others bring an ONNX Runtime of another name.
    return [*pins, runtime if "==" in runtime else cpu.replace("onnxruntime-genai", runtime)]
