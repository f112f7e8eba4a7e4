"""Print the rows of a config: `python -m tests.datasets.read_rows OVERRIDE...`.

A process of its own, as the hub's client reads its environment when it is imported.
"""

import dataclasses
import json
import sys

from slmflow.config import compose as configs
from slmflow.console import messages
from slmflow.datasets import rows
from slmflow.errors import UserError

if __name__ == "__main__":
    try:
        found = rows.read(configs.load(sys.argv[1:]))
    except UserError as fault:
        messages.error(str(fault))
        sys.exit(fault.exit_code)
    print(json.dumps([dataclasses.asdict(row) for row in found]))
