"""The HTTP endpoints: OpenAI's, MLflow's, and those for monitoring."""

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from slmflow.config.schema.serving import Serve
from slmflow.runtime.tracing import Tracer
from slmflow.serving import chat_page
from slmflow.serving.content_types import require_json, require_json_or_csv
from slmflow.serving.errors import RequestError, check_model
from slmflow.serving.http_exchange import CLIENT_CLOSED_REQUEST
from slmflow.serving.middleware import CountingMiddleware, KeyMiddleware
from slmflow.serving.model_process import ModelProcess
from slmflow.serving.openai_responses import error_response
from slmflow.serving.origins import OriginMiddleware
from slmflow.serving.prometheus import Metrics
from slmflow.serving.request_handler import RequestHandler
from slmflow.serving.tokenization import TokenizationHandler


def create(model: ModelProcess, settings: Serve, api_key: str | None, tracer: Tracer) -> ASGIApp:
    """Return the server's app. An API key protects all endpoints except the health checks."""
    app = FastAPI(title="slmflow", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(model)
    handler = RequestHandler(model, settings, metrics, tracer)
    takes_json = [Depends(require_json)]
    app.post("/v1/chat/completions", dependencies=takes_json)(handler.chat)
    app.post("/v1/completions", dependencies=takes_json)(handler.completion)
    app.post("/v1/responses", dependencies=takes_json)(handler.responses)
    tokenization = TokenizationHandler(model, settings.most_body_kb)
    app.post("/tokenize", dependencies=takes_json)(tokenization.tokenize)
    app.post("/detokenize", dependencies=takes_json)(tokenization.detokenize)
    app.post("/invocations", dependencies=[Depends(require_json_or_csv)])(handler.invocations)
    app.get("/")(_chat_page)
    _add_monitoring_endpoints(app, model, metrics)
    _add_error_handlers(app)
    guarded: ASGIApp = KeyMiddleware(app, api_key) if api_key else app
    # Outside, because a preflight has no key.
    guarded = OriginMiddleware(guarded, settings.origins, has_key=api_key is not None)
    return CountingMiddleware(guarded, metrics)


async def _chat_page() -> Response:
    return chat_page.create()


def _add_monitoring_endpoints(app: FastAPI, model: ModelProcess, metrics: Metrics) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = (model.name, *model.adapters)
        return {"object": "list", "data": [_model_card(model, name) for name in names]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        check_model(name, model.name, model.adapters)
        return JSONResponse(_model_card(model, name))

    @app.get("/health")
    @app.get("/ping")
    async def health() -> Response:
        return Response(status_code=503 if model.ended.done() else 200)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return metrics.page()


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def rejected(_: Request, error: RequestError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return error_response(RequestError(message, error.status_code))

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return error_response(RequestError(f"the server failed: {type(error).__name__}", 500))


def _model_card(model: ModelProcess, name: str) -> dict[str, Any]:
    """Return OpenAI's card of the model or an adapter, with the endpoints that it answers at.

    An adapter's has the name of its base model, `parent`, as vLLM's.
    """
    chat = ["/v1/chat/completions", "/v1/responses"] if model.takes_messages else []
    return {
        "id": name,
        "object": "model",
        "created": model.started_at,
        "owned_by": "slmflow",
        "endpoints": [*chat, "/v1/completions"],
        **({} if name == model.name else {"parent": model.name}),
    }
