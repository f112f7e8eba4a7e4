"""What needs the items of the store: registered versions, and runs under way.

Every tracking server whose runs used the store is asked. One that cannot be asked may have versions
and runs that need anything.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from slmflow.errors import UserError
from slmflow.pipeline import results, runs, stale_runs, store_servers, tracking_errors
from slmflow.pipeline.registered_models import TAG_PREFIX
from slmflow.pipeline.results import OnnxModel, Weights
from slmflow.pipeline.store_servers import Servers
from slmflow.upkeep.inventory import Item

_ADAPTERS = "adapters"
_KINDS = {Weights.step: "weights", OnnxModel.step: "onnx"}
_PAGE = 1000


@dataclass(frozen=True)
class RunUnderWay:
    """A run whose process works now.

    models: the names of the models that it works on, None if unknown; started: in seconds since
    the epoch.
    """

    run_id: str
    models: frozenset[str] | None
    started: float

    def may_need(self, item: Item) -> bool:
        """Return whether the run may use an item, now or later."""
        if not item.is_entry or item.last_used >= self.started or self.models is None:
            return True
        model = item.about.get("model")
        return model is None or model in self.models


@dataclass(frozen=True)
class Usage:
    """What needs items: versions by entry (`kind/key`), and the runs under way."""

    versions: Mapping[str, Sequence[str]]
    under_way: Sequence[RunUnderWay]

    def of(self, item: Item) -> list[str]:
        """Return the versions and the runs that need an item."""
        versions = list(self.versions.get(f"{item.kind}/{item.name}", ())) if item.is_entry else []
        needed_by = [f"run {run.run_id}" for run in self.under_way if run.may_need(item)]
        return versions + needed_by


def collect(items: Sequence[Item]) -> Usage:
    """Ask the servers what needs the items. Raises UserError if one cannot be asked."""
    has_adapters = any(item.kind == _ADAPTERS for item in items)
    current = Servers.current()
    try:
        usage = _ask(current, has_adapters)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise tracking_errors.server_error(error) from error
    for servers, file in store_servers.others():
        try:
            if not servers.is_gone:
                usage = _merge(usage, _ask(servers, has_adapters))
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the tracking server {servers.tracking}, whose runs use the store too, cannot be "
                f"asked what they need ({reason}): try again when it can be reached, run this as a "
                f"user who may read it, or remove {file} if that server is gone"
            ) from error
    return usage


def _ask(servers: Servers, has_adapters: bool) -> Usage:
    client = MlflowClient(servers.tracking, servers.registry)
    versions = defaultdict(list)
    for version in _versions(client):
        for entry in _entries_of(version, client, has_adapters):
            versions[entry].append(f"models:/{version.name}/{version.version}")
    return Usage(versions, [_describe(run) for run in _running(client) if _is_under_way(run)])


def _merge(one: Usage, other: Usage) -> Usage:
    entries = {*one.versions, *other.versions}
    versions = {e: [*one.versions.get(e, ()), *other.versions.get(e, ())] for e in entries}
    return Usage(versions, [*one.under_way, *other.under_way])


def _versions(client: MlflowClient) -> Iterator[ModelVersion]:
    """Yield all registered versions. Unity Catalog lists those of one model at a time."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        for model in page:
            name = model.name.replace("'", "\\'")
            yield from client.search_model_versions(f"name='{name}'")
        token = page.token
        if not token:
            return


def _entries_of(version: ModelVersion, client: MlflowClient, has_adapters: bool) -> Iterator[str]:
    """Yield the entries behind a version, as `kind/key`."""
    for step, kind in _KINDS.items():
        if key := version.tags.get(f"{TAG_PREFIX}key_{step}"):
            yield f"{kind}/{key}"
    run_id = version.tags.get(f"{TAG_PREFIX}run_{Weights.step}")
    if has_adapters and run_id:
        with suppress(MlflowException, OSError, ValueError, TypeError):  # a deleted run
            if adapter := _weights(client, run_id).adapter:
                yield adapter


def _weights(client: MlflowClient, run_id: str) -> Weights:
    with tempfile.TemporaryDirectory() as scratch:
        file = client.download_artifacts(run_id, results.FILE, scratch)
        return Weights.from_json(json.loads(Path(file).read_bytes()))


def _running(client: MlflowClient) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        ids = [experiment.experiment_id for experiment in page]
        for start in range(0, len(ids), _PAGE):
            yield from client.search_runs(
                ids[start : start + _PAGE],
                "attributes.status = 'RUNNING'",
                max_results=runs.MAX_RUNS,
            )
        token = page.token
        if not token:
            return


def _is_under_way(run: Run) -> bool:
    """Return whether a run is a step whose process, as far as can be told, is alive."""
    if lock := run.data.tags.get(stale_runs.LOCK_TAG):
        return not stale_runs.is_dead(lock)
    return runs.STEP in run.data.tags


def _describe(run: Run) -> RunUnderWay:
    name = run.data.params.get("model.name")
    models = frozenset(name.strip("[]").split(",")) if name else None
    return RunUnderWay(run.info.run_id, models, run.info.start_time / 1e3)
