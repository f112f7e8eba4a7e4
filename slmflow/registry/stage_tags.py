"""Tags of a version that are not of its registration, and stay when it is registered again.

`slmflow_approved_by` is set by a person, `slmflow_run_promote` and `slmflow_rolled_back` by the
steps that move the champion. `slmflow_gate` is of its registration: the gate that it passed.
"""

from slmflow.pipeline.registered_models import TAG_PREFIX

APPROVED_BY = f"{TAG_PREFIX}approved_by"
"""Who approves that the version becomes the champion."""

RUN_PROMOTE = f"{TAG_PREFIX}run_promote"
"""The id of the run that made it the champion."""

ROLLED_BACK = f"{TAG_PREFIX}rolled_back"
"""When it was replaced as the champion by an earlier one."""

GATE = f"{TAG_PREFIX}gate"
"""The thresholds that it met when it was registered."""

KEPT = frozenset({APPROVED_BY, RUN_PROMOTE, ROLLED_BACK})
"""The tags that stay when the version is registered again."""
