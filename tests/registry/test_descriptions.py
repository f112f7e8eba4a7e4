"""The descriptions of registered models and versions, on a real registry."""

import pytest
from mlflow import MlflowClient

from slmflow.config import compose
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.registry import descriptions

MODEL = ModelMetrics(
    flavor="genai",
    target="cpu_int4",
    exporter="optimum",
    precision="int4",
    model_uri="models:/m-1",
    n=20,
    exact_match=0.95,
    latency_ms_p50=12.5,
)
REPORT = "# tiny\\_phi3 on cpu\\_int4 (optimum)\n\ngenai is good enough.\n\n| metric |\n| --- |\n"


def test_version_begins_with_text_that_lists_show() -> None:
    comparison = Comparison("run", "tiny_phi3", (MODEL,))

    first, _, rest = descriptions.of_version(comparison, MODEL, REPORT).partition("\n\n")

    assert first == (
        "tiny_phi3 on cpu_int4 (optimum), genai in int4: 95.0% exact match, 12.5 ms median latency"
    )
    assert rest == "genai is good enough.\n\n| metric |\n| --- |\n"


def test_markup_in_a_name_is_escaped() -> None:
    comparison = Comparison("run", "<b>*x*", (MODEL,))

    assert descriptions.of_version(comparison, MODEL, REPORT).startswith("&lt;b&gt;\\*x\\* on")


@pytest.mark.usefixtures("tracking")
def test_description_of_a_user_stays() -> None:
    config = compose.load(["registry.name=capitals"])
    client = MlflowClient()
    client.create_registered_model("capitals")

    descriptions.describe_model(config)
    made = client.get_registered_model("capitals").description
    client.update_registered_model("capitals", "ours")
    descriptions.describe_model(config)

    assert made.startswith("Versions of tiny\\_phi3 that slmflow converted")
    assert "`mlflow.pyfunc.load_model('models:/capitals@candidate')`" in made
    assert client.get_registered_model("capitals").description == "ours"
