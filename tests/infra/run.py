"""Try a team's infrastructure on the real thing, and write the table: `make test-infra`.

python -m tests.infra.run --output docs/infra.md [TRIAL...]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from slmflow.paths import PROJECT
from slmflow.reports import markdown
from tests.infra.trials import TRIALS, Workplace

_INTRODUCTION = """# Infrastructure that was tried

Written by `make test-infra`: each line was run against the real server, with steps as a user runs
them. S3 is moto, PostgreSQL the system's, the servers are MLflow 3.17 unless named, each in an
environment of its own. A message stands where the trial expects a refusal. What to set up is on the
page of [tracking servers](tracking_servers.md).

"""
_COLUMNS = ("tried", "outcome", "seconds")
_LONGEST = 400


def main() -> int:
    """Run the trials and write the page; return 1 if one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "slmflow-infra")
    parser.add_argument("trials", nargs="*", help="names of trials; all by default")
    arguments = parser.parse_args()
    rows, failed = [], []
    for trial in TRIALS:
        if arguments.trials and trial.__name__ not in arguments.trials:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                outcome = trial(Workplace(Path(folder), arguments.home))
            except Exception as error:
                failed.append(trial.__name__)
                outcome = f"FAILED: {error}"
                print(f"{trial.__name__}: {error}", file=sys.stderr)
            outcome = outcome.replace(folder, "...").replace(str(PROJECT), "PROJECT")
        seconds = f"{time.monotonic() - started:.0f}"
        print(f"{trial.__name__}: {outcome} ({seconds} s)", flush=True)
        name = str(trial.__doc__)
        rows.append((name, markdown.text(outcome[:_LONGEST].replace("\n", " ")), seconds))
    page = markdown.table(_COLUMNS, rows, left_aligned=_COLUMNS[:2])
    arguments.output.write_text(f"{_INTRODUCTION}{page}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
