"""List, verify or prune the store, the folder of large files in SLMFLOW_HOME.

mlflow run . -e store --env-manager uv -P action=prune -P store.older_than_days=30
python -m steps.store list
python -m steps.store prune store.max_size_mb=50000 store.dry_run=false
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence

from mlflow.exceptions import MlflowException

from slmflow.config import compose, overrides
from slmflow.config.schema.store import Action, Store
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import entries, store, temporary_files, tracking_errors
from slmflow.pipeline.failures import report_failure
from slmflow.pipeline.step_runner import run_hydra
from slmflow.upkeep import contents, inventory, pruning, tables, usage
from slmflow.upkeep.inventory import Item


def run(settings: Store) -> None:
    """List, verify or prune the store. Raises UserError."""
    items = inventory.scan()
    chosen = [item for item in items if settings.model in (None, item.about.get("model"))]
    match settings.action:
        case Action.list:
            _list(chosen)
        case Action.verify:
            contents.verify([item for item in chosen if item.is_entry])
        case Action.prune:
            _prune(items, settings)


def _list(items: Sequence[Item]) -> None:
    """Print a table; without a tracking server, without what uses the items."""
    try:
        used_by = usage.collect(items).of
    except UserError as unknown:
        messages.warning(f"what uses the store is not known: {unknown}")
        print(tables.render(items, lambda item: ["?"]))
    else:
        print(tables.render(items, used_by))
    messages.info(f"the store is {store.home()}")


def _prune(items: Sequence[Item], settings: Store) -> None:
    entries.remove_abandoned_builds()
    used_by, now = usage.collect(items), time.time()
    selection = pruning.select(items, settings, used_by, now)
    for line in tables.describe_needed(selection.needed):
        messages.info(line)
    if settings.dry_run:
        print(tables.render(selection.removable, lambda item: []))
        _warn_of_size(
            pruning.what_keeps(items, selection.removable, settings, used_by, now), settings
        )
        messages.info("nothing was removed: store.dry_run=false removes what the table shows")
        return
    removed = [item for item in selection.removable if pruning.remove(item)]
    for item in selection.removable:
        if item not in removed:
            messages.info(f"{tables.name(item)} stays: it is in use")
    print(tables.render(removed, lambda item: []))
    _warn_of_size(pruning.what_keeps(items, removed, settings, used_by, now), settings)
    messages.info(f"removed {len(removed)} of {len(items)} items of the store {store.home()}")


def _warn_of_size(kept: Mapping[str, int], settings: Store) -> None:
    """Say what keeps a store larger than its size budget, if anything does."""
    if kept:
        reasons = "; ".join(f"{size / 1e6:,.1f} MB {reason}" for reason, size in kept.items())
        messages.warning(
            f"store.max_size_mb={settings.max_size_mb:g} cannot be reached: "
            f"{sum(kept.values()) / 1e6:,.1f} MB stay ({reasons})"
        )


def main(arguments: Sequence[str]) -> int:
    """Run with the arguments of the command line; return the exit status, as every step does.

    The first may be an action alone. No MLflow run is started: nothing is made.
    """
    actions = {action.value for action in Action}
    if arguments and arguments[0] in actions:
        arguments = [f"store.action={arguments[0]}", *arguments[1:]]
    if overrides.has_hydra_flag(arguments):
        return run_hydra(arguments)
    tracking_errors.silence_database_log()
    try:
        config = compose.load(overrides.from_arguments(arguments))
        with temporary_files.use_private_folder():
            run(config.store)
    except (Exception, KeyboardInterrupt) as fault:
        explained = tracking_errors.explain(fault) if isinstance(fault, MlflowException) else None
        return report_failure(explained or fault, os.environ.get("MLFLOW_RUN_ID"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
