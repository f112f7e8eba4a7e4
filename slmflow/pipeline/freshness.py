"""Which results a run makes anew although earlier ones have their keys.

They are those of the steps in `fresh`, and all that is made from them: measurements of a model that
was converted before would not be those of the new one. Each is made once by all the steps below one
run of the user's, its *root*, whose id is a tag of their runs.
"""

from mlflow.entities import Run

from slmflow.config.schema.config import ALL_STEPS, Config
from slmflow.pipeline import runs
from slmflow.pipeline.results import Measurements, Result
from slmflow.pipeline.stale_runs import with_ancestors


def is_named(kind: type[Result], config: Config) -> bool:
    """Return whether a step is named in `fresh`."""
    return not {ALL_STEPS, kind.step}.isdisjoint(config.fresh)


def is_made_anew(kind: type[Result], config: Config) -> bool:
    """Return whether a result, or anything that it is made from, is made anew."""
    times_anew = kind is Measurements and config.measurement.again
    inputs = kind.inputs(config)
    return times_anew or is_named(kind, config) or any(is_made_anew(i, config) for i in inputs)


def makes_any(config: Config) -> bool:
    """Return whether anything is made anew."""
    return bool(config.fresh) or config.measurement.again


def root_run_id(run: Run) -> str:
    """Return the id of the uppermost step's run above a run, or of the run itself."""
    root = run
    for ancestor in list(with_ancestors(run))[1:]:
        if runs.STEP not in ancestor.data.tags:  # of a notebook
            break
        root = ancestor
    return str(root.info.run_id)
