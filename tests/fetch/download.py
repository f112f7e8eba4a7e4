"""Download a model from HF_ENDPOINT into the store: `python -m tests.fetch.download ID REVISION`.

A process of its own, as the hub's client reads its environment when it is imported; without
MLflow, whose import would be most of the time.
"""

import sys

from steps.common import console, store
from steps.common.errors import UserError
from steps.fetch import hub

if __name__ == "__main__":
    model_id, revision = sys.argv[1:]
    try:
        store.get_or_build(
            "weights",
            "key",
            lambda folder: hub.download(hub.repository(model_id, revision), folder),
        )
    except UserError as fault:
        console.error(str(fault))
        sys.exit(fault.exit_code)
