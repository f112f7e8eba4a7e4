"""Load a logged model of either flavor, and make of it what answers requests."""

import re
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from slmflow.errors import UserError
from slmflow.runtime.chat_model import ChatModel

# By alias, version or stage; any other address names no registered model.
_REGISTERED = re.compile(r"models:/([^/@]+)[/@][^/@]+")


@dataclass(frozen=True)
class Loaded:
    """A model: its chat interface, whose name callers give, and MLflow's interface."""

    chat: ChatModel
    pyfunc: PyFuncModel

    def invocations(self, body: str, content_type: str) -> dict[str, Any]:
        """Return what MLflow's scoring server answers: its body, status and type."""
        schema = self.pyfunc.metadata.get_input_schema()
        try:
            answer = scoring_server.invocations(body, content_type, self.pyfunc, schema)
        except MlflowException as error:
            return {
                "body": error.serialize_as_json(),
                "status": error.get_http_status_code(),
                "media_type": "application/json",
            }
        return {"body": answer.response, "status": answer.status, "media_type": answer.mimetype}


def load(model_uri: str) -> Loaded:
    """Load a model. Raises UserError for one that is no chat model of slmflow's."""
    model = mlflow.pyfunc.load_model(model_uri)
    if "transformers" in model.metadata.flavors:
        from slmflow.serving.transformers_engine import (
            pipeline_chat,  # needs torch, which only this flavor has
        )

        chat = pipeline_chat(model)
    else:
        chat = _genai_chat(model)
    if registered := _REGISTERED.fullmatch(model_uri):
        chat.name = registered[1]
    return Loaded(chat, model)


def _genai_chat(model: PyFuncModel) -> ChatModel:
    chat: ChatModel | None = getattr(model.unwrap_python_model(), "chat", None)
    if chat is None:
        raise UserError(
            "it is no chat model of slmflow's, or an older slmflow has logged it: log it anew "
            "with `mlflow run . -e log_genai`"
        )
    return chat
