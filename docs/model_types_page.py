"""The page on all model types of transformers: what each exporter does with them."""

from transformers import __version__

from slmflow.config.schema.target import ExporterName
from slmflow.conversion.builder_support import NO_CODE
from slmflow.conversion.decoder_spec import is_described
from slmflow.conversion.supported_models import CAUSAL_LM_CLASSES, unsupported_reason
from slmflow.reports.markdown import table

COLUMNS = ("model type", "class", "exporter=optimum", "exporter=builder")
FUSED, AS_EXPORTED, YES = "fused attention", "attention as exported", "yes"

_INTRODUCTION = f"""# Model types

The {len(CAUSAL_LM_CLASSES)} model types of transformers {__version__} that have a causal language
model class, generated from the tables that `convert` checks. `model_type` and `architectures` of a
model's config.json name its row.

- *{FUSED}*: the graph has ONNX Runtime's attention operator, see [architectures](architectures.md)
- *{AS_EXPORTED}*: the graph has the operators that optimum exports, and decodes slower
- *{YES}*: the GenAI model builder's graph equals transformers, for the settings that
  `slmflow/conversion/builder_support.py` lists; others are rejected by name
- *no*: rejected by name, before the model is downloaded

Qwen3.5 also converts from its multimodal checkpoints: transformers loads their language model.
"""


def build_page() -> str:
    """Return the page for the installed transformers."""
    rows = [
        (f"`{model_type}`", f"`{architecture}`", _optimum(model_type), _builder(model_type))
        for model_type, architecture in sorted(CAUSAL_LM_CLASSES.items())
    ]
    return f"{_INTRODUCTION}\n{table(COLUMNS, rows, left_aligned=COLUMNS)}\n"


def attention_class(architecture: str) -> str:
    """Return the name of an architecture's attention class, as transformers names it."""
    return architecture.replace("ForCausalLM", "Attention")


def _optimum(model_type: str) -> str:
    architecture = CAUSAL_LM_CLASSES[model_type]
    if unsupported_reason(model_type, [architecture], ExporterName.optimum):
        return "no"
    return FUSED if is_described(attention_class(architecture)) else AS_EXPORTED


def _builder(model_type: str) -> str:
    architecture = CAUSAL_LM_CLASSES[model_type]
    reason = unsupported_reason(model_type, [architecture], ExporterName.builder)
    if reason is None:
        return YES
    return "no" if reason == NO_CODE else f"no: {reason}"
