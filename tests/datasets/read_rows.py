"""Print the rows of a config: `python -m tests.datasets.read_rows OVERRIDE...`.

For invalid rows, print the error and the peak memory in MB.

A separate process, as the hub's client reads its environment on import.
"""

import dataclasses
import json
import sys

from slmflow.config import compose as configs
from slmflow.console import messages
from slmflow.datasets import rows
from slmflow.errors import UserError
from slmflow.system import memory

if __name__ == "__main__":
    try:
        evaluation_rows = rows.read(configs.load(sys.argv[1:]))
    except UserError as error:
        messages.error(str(error))
        print((memory.peak_rss_bytes() or 0) // 10**6)
        sys.exit(error.exit_code)
    print(json.dumps([dataclasses.asdict(row) for row in evaluation_rows]))
