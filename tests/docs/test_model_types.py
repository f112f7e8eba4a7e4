"""The page on model types, compared with transformers and with the checks of `convert`."""

import re
from typing import Any

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from docs.model_types_page import AS_EXPORTED, FUSED, YES, build_page
from slmflow.config.schema.target import ExporterName
from slmflow.conversion import decoder_spec, reference_model
from slmflow.conversion.export_config import MODEL_TYPES
from slmflow.conversion.supported_models import check_config
from slmflow.errors import UserError

ROWS = {
    model_type: (architecture, optimum, builder)
    for model_type, architecture, optimum, builder in re.findall(
        r"^\| `(.*?)` \| `(.*?)` \| (.*?) \| (.*?) \|$", build_page(), re.MULTILINE
    )
}


def test_every_causal_model_type_of_transformers_is_listed() -> None:
    listed = {model_type: row[0] for model_type, row in ROWS.items()}
    assert listed == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_page_says_what_convert_accepts() -> None:
    for model_type, (architecture, *outcomes) in ROWS.items():
        config = {"model_type": model_type, "architectures": [architecture]}
        for exporter, outcome in zip(ExporterName, outcomes, strict=True):
            if outcome in (FUSED, AS_EXPORTED, YES):
                check_config(config, exporter)
            else:
                assert outcome.startswith("no")
                with pytest.raises(UserError, match=f"does not support {architecture}"):
                    check_config(config, exporter)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "quantized already .*mxfp4"),
        ({"quantization_config": ["fp8"]}, "quantized already"),
        ({"architectures": "LlamaForCausalLM"}, "names no architecture"),
        ({"architectures": [5]}, "does not support 5"),
        ({"architectures": None, "model_type": ["llama"]}, "names no architecture"),
    ],
)
def test_config_that_no_exporter_reads_is_rejected(fields: dict[str, Any], message: str) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]} | fields

    with pytest.raises(UserError, match=message):
        check_config(config, ExporterName.optimum)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_page_says_which_attention_is_fused(model_type: str) -> None:
    sizes = {"num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 64}
    sizes |= {"max_position_embeddings": 64}
    config = AutoConfig.for_model(model_type, **sizes)

    decoder = decoder_spec.describe(reference_model.build_without_weights(config))

    assert ROWS[model_type][1] == (AS_EXPORTED if decoder.unsupported else FUSED)
    assert (len(decoder.attentions) == 2) == (not decoder.unsupported)
