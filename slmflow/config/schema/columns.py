"""What the names of a table's columns must be."""

import dataclasses
from collections.abc import Iterator
from typing import Any


def column_problems(section: str, columns: Any) -> Iterator[str]:
    """Yield what is wrong with the names that a dataclass holds, one sentence each.

    section: the config's name of it, such as `batch.columns`.
    """
    first: dict[str, str] = {}
    for key, name in dataclasses.asdict(columns).items():
        if not name.strip():
            yield f"{section}.{key} is blank: give the name of a column"
        elif (other := first.setdefault(name, key)) != key:
            yield (
                f"{section}.{other} and {section}.{key} are both {name!r}: "
                "each must be a column of its own"
            )
