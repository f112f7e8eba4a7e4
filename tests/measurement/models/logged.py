"""Log or save the models of this folder."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from mlflow.types.schema import ColSpec, Schema

from slmflow.measurement.measured_model import MeasuredModel

FOLDER = Path(__file__).parent
CHAT = ModelSignature(CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA)
PROMPT = ModelSignature(Schema([ColSpec("string", "prompt")]), Schema([ColSpec("string")]))


def log_model(kind: Any, code: str, signature: ModelSignature = CHAT) -> Any:
    """Log a model of this folder to the active run; return it as a result of this kind."""
    info = mlflow.pyfunc.log_model(
        name=kind.flavor,
        python_model=str(FOLDER / code),
        signature=signature,
        pip_requirements=["mlflow"],
    )
    return kind(info.model_uri, info.model_id, 5_000_000)


def save_model(folder: Path, code: str, signature: ModelSignature = CHAT) -> MeasuredModel:
    """Save a model of this folder to another folder, whose name becomes its flavor."""
    mlflow.pyfunc.save_model(
        folder, python_model=str(FOLDER / code), signature=signature, pip_requirements=["mlflow"]
    )
    return MeasuredModel(folder.name, str(folder), model_id="", size_bytes=0)
