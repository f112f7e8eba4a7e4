"""Download a model from HF_ENDPOINT into the store: `python -m tests.hub.download ID REVISION`.

A process of its own, as the hub's client reads its environment when it is imported; without
MLflow, whose import would be most of the time.
"""

import sys

from slmflow.checkpoints import hub_model
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store

if __name__ == "__main__":
    model_id, revision = sys.argv[1:]
    try:
        store.get_or_build(
            "weights",
            "key",
            lambda folder: hub_model.download(hub_model.repository(model_id, revision), folder),
        )
    except UserError as fault:
        messages.error(str(fault))
        sys.exit(fault.exit_code)
