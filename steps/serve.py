"""Serve a logged model to OpenAI clients and MLflow clients.

mlflow run . -e serve --env-manager uv -P model_uri=models:/slmflow-tiny_phi3@candidate -P port=8000
python -m steps.serve serve.model_uri=models:/slmflow-tiny_phi3@candidate serve.port=8000
"""

import asyncio
import os

from mlflow.tracing.constant import TraceMetadataKey

from slmflow.console import messages, progress_bars
from slmflow.pipeline import model_uris
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.runtime.tracing import MODEL_URI, Tracer
from slmflow.serving import server
from slmflow.serving.app import create
from slmflow.serving.model_process import ModelProcess
from slmflow.serving.request_defaults import RequestDefaults

API_KEY = "SLMFLOW_API_KEY"


def serve(step: Step) -> None:
    """Load the model in a child process and serve until a signal."""
    asyncio.run(_serve(step))


async def _serve(step: Step) -> None:
    settings = step.config.serve
    bound = server.listen(settings.host, settings.port)
    key = os.environ.get(API_KEY) or None
    server.require_key(bound, settings, key)
    model_uri = model_uris.resolve(settings.model_uri, step.config)
    logged = model_uris.load_metadata("serve.model_uri", model_uri)
    pinned = model_uris.pin("serve.model_uri", model_uri)
    with progress_bars.spinner(f"loading {model_uri}"):
        model = await ModelProcess.start(
            model_uri, RequestDefaults.from_config(step.config, step.overrides), settings.cache_mb
        )
    experiment_id = step.run.info.experiment_id
    served = {MODEL_URI: pinned, TraceMetadataKey.MODEL_ID: logged.model_id}
    tracer = Tracer(
        settings.tracing.value,
        experiment_id,
        warn=messages.warning,
        metadata={name: value for name, value in served.items() if value},
    )
    app = create(model, settings, key, tracer)
    try:
        await server.run(app, bound, model)
    finally:
        await model.stop()
        tracer.close()


if __name__ == "__main__":
    run_step("serve", serve)
