"""Validation of configured column names."""

import dataclasses
from collections.abc import Iterator
from typing import Any


def column_problems(section: str, columns: Any) -> Iterator[str]:
    """Yield one message for each blank or repeated name in a dataclass of column names.

    section: its name in the config, such as `batch.columns`.
    """
    first_use: dict[str, str] = {}
    for key, name in dataclasses.asdict(columns).items():
        if not name.strip():
            yield f"{section}.{key} is blank: give the name of a column"
        elif (other := first_use.setdefault(name, key)) != key:
            yield (
                f"{section}.{other} and {section}.{key} are both {name!r}: give different columns"
            )
