"""Download a model from HF_ENDPOINT to the store.

python -m tests.hub.download_model ID REVISION KEY

A separate process, as the hub's client reads its environment on import. Without MLflow, whose
import would take most of the time.
"""

import signal
import sys

from slmflow.checkpoints import hub_model
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import entries

if __name__ == "__main__":
    # A shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    *model, key = sys.argv[1:]
    repository = hub_model.repository(*model)
    try:
        entries.get_or_build("weights", key, lambda folder: hub_model.download(repository, folder))
    except UserError as error:
        messages.error(str(error))
        sys.exit(error.exit_code)
