"""Load a logged model of either flavor, and open a session with it."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import input_names
from slmflow.flavors.unknown_tokens import install_check
from slmflow.runtime.errors import reject
from slmflow.runtime.protocol import PROTOCOL_VERSION, Deliver, Session
from slmflow.runtime.request_fields import TEMPLATE_VARIABLES
from slmflow.runtime.session import ModelSession
from slmflow.serving.unversioned_model import adapt

# By alias, version or stage. Any other URI has no registered name.
_REGISTERED = re.compile(r"models:/([^/@]+)[/@][^/@]+")

# The first version of the protocol whose sessions take `cache_mb`.
_CACHE_VERSION = 2


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model: the session for OpenAI requests, and the pyfunc for MLflow's.

    protocol_version: of the session; 0 for a model logged before the protocol had a version.
    """

    session: Session
    pyfunc: PyFuncModel
    protocol_version: int = PROTOCOL_VERSION

    def invoke(self, body: str, content_type: str) -> dict[str, Any]:
        """Return the response of MLflow's scoring server: its body, status and media type."""
        schema = self.pyfunc.metadata.get_input_schema()
        try:
            self._reject_dropped_field(body)
            result = scoring_server.invocations(body, content_type, self.pyfunc, schema)
            response, status, media_type = result.response, result.status, result.mimetype
        except MlflowException as error:
            response, status = error.serialize_as_json(), error.get_http_status_code()
            media_type = "application/json"
        return {"body": response, "status": status, "media_type": media_type}

    def _reject_dropped_field(self, body: str) -> None:
        """Raise MlflowException for template variables that MLflow would silently drop."""
        if TEMPLATE_VARIABLES not in body or TEMPLATE_VARIABLES in input_names(
            self.pyfunc.metadata
        ):
            return
        with suppress(ValueError, RecursionError):  # the scoring server reports these
            fields = json.loads(body)
            if isinstance(fields, dict) and TEMPLATE_VARIABLES in fields:
                reject(
                    f"this model takes no {TEMPLATE_VARIABLES} at /invocations: send them to "
                    "/v1/chat/completions, or log the model again with generation.template"
                )


def load(model_uri: str, deliver: Deliver, cache_mb: int | None = None) -> LoadedModel:
    """Load a model. Its session delivers events to `deliver`.

    A registered model gets its registered name. cache_mb: memory for KV caches; None is the model's
    own default. Raises UserError for a model that cannot be served.
    """
    pyfunc = mlflow.pyfunc.load_model(model_uri)
    install_check(pyfunc)
    registered = _REGISTERED.fullmatch(model_uri)
    name = registered[1] if registered else None
    if "transformers" in pyfunc.metadata.flavors:
        # Imports torch, which only this flavor has installed.
        from slmflow.serving.transformers_engine import open_session

        return LoadedModel(open_session(pyfunc, deliver, name), pyfunc)
    python_model: Any = pyfunc.unwrap_python_model()
    version = getattr(python_model, "protocol_version", 0)
    options: dict[str, Any] = {} if version < _CACHE_VERSION else {"cache_mb": cache_mb}
    session = _genai_session(python_model, version, deliver, name, **options)
    return LoadedModel(session, pyfunc, version)


def _genai_session(
    python_model: Any, version: int, deliver: Deliver, name: str | None, **options: Any
) -> Session:
    if version == 0:
        if hasattr(python_model, "chat"):
            return ModelSession(adapt(python_model.chat, name), deliver)
        raise UserError(
            "the model was not logged by slmflow, or by a version too old to be served: log it "
            "again with `mlflow run . -e log_genai`"
        )
    if version > PROTOCOL_VERSION:
        raise UserError(
            f"the model uses version {version} of the serving protocol, and this slmflow supports "
            f"versions up to {PROTOCOL_VERSION}: upgrade slmflow, or log the model again with it"
        )
    session: Session = python_model.open_session(deliver, model_name=name, **options)
    return session
