"""The commands that README shows."""

import re

from steps.common.paths import PROJECT

TEXT = (PROJECT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
