"""The model that the clients ask: logged by the workflow, and served with a key."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import logged_models, stored_models
from benchmarks.server_load.server import serving
from slmflow.pipeline.results import Weights
from tests.fixtures.server import free_port

TEMPLATE = Path(__file__).parent / "template.jinja"

BUNDLED, SMOLLM2 = "bundled", "smollm2"

_KEY = "sesame"

# Of a client that gives no limit: a small model goes on and on.
_LONGEST_ANSWER = 128


@dataclass(frozen=True)
class ServedModel:
    """A model, and what it can do beyond chat.

    overrides: of the workflow. abilities: as a cell's `needs` names them.
    """

    title: str
    overrides: tuple[str, ...]
    abilities: tuple[str, ...] = ()


def find(name: str) -> ServedModel:
    """Return the bundled model, SmolLM2 from its package, or the model of a folder.

    The last two get a template with tools and thinking.
    """
    if name == BUNDLED:
        return ServedModel("The bundled model", ("target=cpu_fp32",))
    folder = stored_models.smollm2(with_noise=False) if name == SMOLLM2 else Path(name).absolute()
    overrides = (
        *("model=local", f"model.path={folder}", f"model.template={TEMPLATE}"),
        *("target=cpu_int8", "generation=greedy"),
    )
    title = "SmolLM2-135M-Instruct" if name == SMOLLM2 else Path(name).name
    return ServedModel(title, overrides, ("tools", "enable_thinking"))


@contextmanager
def serve(model: ServedModel) -> Iterator[dict[str, Any]]:
    """Serve a model and yield the fields of `cells.Server`."""
    logged = logged_models.ensure_logged(model.overrides)
    weights, _ = logged_models.find_logged(Weights, model.overrides)
    origins = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    settings = (f"serve.origins=[{origins[0]}]", f"serve.default_max_tokens={_LONGEST_ANSWER}")
    with serving(logged.model_uri, *settings, api_key=_KEY) as server:
        yield {
            "url": server.url,
            "model": server.model,
            "key": _KEY,
            "tokenizer": str(weights.folder),
            "abilities": model.abilities,
            "origins": origins,
        }
