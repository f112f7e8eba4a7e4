"""A base model, without a chat template, in both flavors: it continues prompts as transformers."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.flavors import chat_interfaces
from slmflow.measurement.records import Likelihood
from slmflow.measurement.scoring.likelihood import score_rows
from slmflow.pipeline import digests
from slmflow.pipeline.results import LoggedModel
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder, encode_continuation
from steps.log_genai import log_genai
from steps.log_transformers import log_transformers
from tests.fixtures.base_model import (
    BOS,
    TINY_PHI3,
    BaseModel,
    BaseReference,
    convert_base_model,
)
from tests.fixtures.bundled_model import StepInputs

FLAVORS = ("base_genai", "base_pipeline")
PROMPTS = [
    "Question: What is the capital of France?\nAnswer:",
    "The capital of Peru is",
    "  two  spaces\n\nand a “quote”, Zürich",
]


@pytest.fixture(params=FLAVORS)
def logged(request: pytest.FixtureRequest) -> LoggedModel:
    model: LoggedModel = request.getfixturevalue(request.param)
    return model


@pytest.fixture
def model(logged: LoggedModel) -> PyFuncModel:
    return mlflow.pyfunc.load_model(logged.model_uri)


def test_signature_and_metadata_tell_that_it_takes_prompts(logged: LoggedModel) -> None:
    info = mlflow.models.get_model_info(logged.model_uri)
    assert info.signature.inputs.to_dict() == [
        {"type": "string", "name": "prompt", "required": True}
    ]
    assert info.signature.outputs.to_dict() == [{"type": "string", "required": True}]
    assert info.metadata == {"slmflow_chat_template": "none"}
    assert chat_interfaces.is_base_model(Model.load(logged.model_uri))
    if "transformers" in info.flavors:
        assert info.flavors["transformers"]["task"] == "text-generation"


def test_continuations_equal_transformers(
    model: PyFuncModel, base_reference: BaseReference
) -> None:
    expected = [base_reference.continue_text(prompt).strip() for prompt in PROMPTS]
    output: Any = model.predict(pd.DataFrame({"prompt": PROMPTS}))
    assert [text.strip() for text in output] == expected
    assert len(set(expected)) == len(PROMPTS)


def test_logged_example_is_answered(logged: LoggedModel, model: PyFuncModel) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    example = json.loads((folder / "input_example.json").read_text())
    assert example == {"prompt": "The capital of France is"}
    [text] = model.predict(example)
    assert text


def test_prompt_tokens_equal_transformers(
    base_model: BaseModel, base_reference: BaseReference
) -> None:
    encoder = TemplatePromptEncoder(base_model.onnx)
    assert not encoder.takes_messages
    for prompt in PROMPTS:
        ids = encoder.encode_document(prompt)
        assert ids == base_reference.tokenizer(prompt).input_ids
        assert ids.count(BOS) == 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_likelihood_is_that_of_the_continuation(
    model: PyFuncModel, base_reference: BaseReference, prompt: str
) -> None:
    answers = ("Paris", "A", "The capital of France is Paris.")
    rows = [Row([{"role": "user", "content": prompt}], answer) for answer in answers]
    scores = score_rows(model, dict(enumerate(rows)))
    assert scores is not None
    likelihoods = {number: likelihood for number, likelihood, _ in scores}
    for number, answer in enumerate(answers):
        expected, count = base_reference.score(prompt, answer)
        assert likelihoods[number] == Likelihood(pytest.approx(expected, abs=1e-4), count)


def test_prompt_that_ends_in_a_space_shares_its_last_token(base_reference: BaseReference) -> None:
    """The answer's first token holds the space, as in the text that the model was trained on."""
    tokenizer = base_reference.tokenizer.backend_tokenizer
    whole = tokenizer.encode("Answer: Paris").ids
    for prompt in ("Answer:", "Answer: "):
        ids, answer = encode_continuation(tokenizer, prompt, "Paris")
        assert ids + answer == whole
        assert tokenizer.decode(answer) == "Paris"
    assert encode_continuation(tokenizer, "Answer:", "") == (tokenizer.encode("Answer:").ids, [])


def test_stream_joins_to_the_same_text(base_genai: LoggedModel) -> None:
    model = mlflow.pyfunc.load_model(base_genai.model_uri)
    [whole] = model.predict({"prompt": PROMPTS[0]})
    assert "".join(model.predict_stream({"prompt": PROMPTS[0]})) == whole


def test_messages_are_rejected_with_what_to_do(base_genai: LoggedModel) -> None:
    python_model = mlflow.pyfunc.load_model(base_genai.model_uri).unwrap_python_model()
    conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    with pytest.raises(MlflowException, match=r"no chat template.*model\.template=FILE"):
        python_model.score(conversation, "Hello")
    with pytest.raises(MlflowException, match=r"no chat template.*model\.template=FILE"):
        python_model.predict(None, {"messages": conversation})
    for prompt in (None, 3):
        with pytest.raises(MlflowException, match=r"prompt=.*: give text"):
            python_model.predict(None, {"prompt": prompt})
    with pytest.raises(MlflowException, match="prompt: 'Hi' is not a token id"):
        python_model.predict(None, {"prompt": ["Hi"]})


def test_template_makes_it_a_chat_model_in_both_flavors(
    home: Path, base_model: BaseModel, experiment: str, tmp_path: Path
) -> None:
    """The bundled model's own template gives the bundled model's answer."""
    template = tmp_path / "mine.jinja"
    settings = json.loads((TINY_PHI3 / "tokenizer_config.json").read_text())
    template.write_text(settings["chat_template"])
    made = convert_base_model(home, base_model.path, f"model.template={template}")
    step = StepInputs(made.config, made.weights, made.onnx)
    with mlflow.start_run(experiment_id=experiment):
        logged = [log_transformers(step), log_genai(step)]
    for each in logged:
        model = mlflow.pyfunc.load_model(each.model_uri)
        question = {"role": "user", "content": "What is the capital of France?"}
        [completion] = model.predict({"messages": [question]})
        assert completion["choices"][0]["message"]["content"] == "The capital of France is Paris."
        folder = Path(mlflow.artifacts.download_artifacts(each.model_uri))
        provenance = json.loads((folder / "provenance" / "provenance.json").read_text())
        assert provenance["model"]["template_sha256"] == digests.sha256(template)
