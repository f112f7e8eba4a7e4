from pathlib import Path

import pytest
from mlflow.models import Model

from slmflow.config import compose as configs
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.metrics import precision


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("cpu_fp32", "fp32"),
        ("cpu_int8", "int8"),
        ("cpu_int4", "int4"),
        ("cuda_fp16", "fp16"),
        ("cuda_int4", "int4"),
    ],
)
def test_converted_model_has_the_precision_of_its_target(target: str, expected: str) -> None:
    config = configs.load([f"target={target}"])
    converted = MeasuredModel("genai", "models:/m-1", "m-1", 1)
    assert precision.of_model(converted, config) == expected


def logged(folder: Path, flavor: str, **options: str) -> MeasuredModel:
    Model(flavors={flavor: options}).save(str(folder / "MLmodel"))
    return MeasuredModel(flavor, str(folder), "", 1)


def test_pipeline_has_the_precision_it_was_logged_with(tmp_path: Path) -> None:
    config = configs.load(["target=cpu_int4"])
    model = logged(tmp_path, "transformers", torch_dtype="torch.float32")
    assert precision.of_model(model, config) == "fp32"


def test_precision_of_any_other_model_is_unknown(tmp_path: Path) -> None:
    config = configs.load([f"evaluation.model_uri={tmp_path}"])
    assert precision.of_model(logged(tmp_path, "python_function"), config) is None
