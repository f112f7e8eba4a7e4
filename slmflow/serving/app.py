"""The addresses of the server: OpenAI's, MLflow's, and those that watch over it."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from slmflow.config.schema.serving import Serve
from slmflow.runtime.tracing import Tracer
from slmflow.serving.access_guard import Guard
from slmflow.serving.errors import Refusal, check_model
from slmflow.serving.model_process import ModelProcess
from slmflow.serving.openai_responses import error
from slmflow.serving.prometheus import Metrics
from slmflow.serving.request_handler import CLIENT_GONE, Answering


def create(model: ModelProcess, settings: Serve, api_key: str | None, tracer: Tracer) -> ASGIApp:
    """Return the server's app; with an API key, all but its health is for those who have it."""
    app = FastAPI(title="slmflow", docs_url=None, redoc_url=None, openapi_url=None)
    metrics = Metrics(model)
    _answer(app, Answering(model, settings, metrics, tracer))
    _describe(app, model, metrics)
    _tell_faults(app)
    return Guard(app, api_key, metrics)


def _answer(app: FastAPI, answering: Answering) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await answering.chat(request)

    @app.post("/v1/completions")
    async def completion(request: Request) -> Response:
        return await answering.completion(request)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        return await answering.invocations(request)


def _describe(app: FastAPI, model: ModelProcess, metrics: Metrics) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_card(model)]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        check_model(name, model.name)
        return JSONResponse(_card(model))

    @app.get("/health")
    @app.get("/ping")
    async def health() -> Response:
        return Response(status_code=503 if model.ended.done() else 200)

    @app.get("/metrics")
    async def figures() -> Response:
        return metrics.page()


def _tell_faults(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return error(refusal)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, fault: HTTPException) -> Response:
        return error(
            Refusal(f"{request.method} {request.url.path}: {fault.detail}", fault.status_code)
        )

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def failed(_: Request, fault: Exception) -> Response:
        return error(Refusal(f"the server failed: {type(fault).__name__}", 500))


def _card(model: ModelProcess) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.started, "owned_by": "slmflow"}
