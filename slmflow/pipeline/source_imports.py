"""What the source of a module imports, by static analysis; kept beside the bytecode.

Parsing all modules takes a third of a second in each process. What was parsed is in `__pycache__`,
like bytecode, unless Python is to write none. It is found by the hash of the source, so it is never
out of date.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("slmflow", "steps")

NAME = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)*")
"""The name of a module of ours."""

_QUOTED_NAME = re.compile(rf"[\"']{NAME.pattern}[\"']")
_MOST_KEPT = 4000


class Imports(NamedTuple):
    """The absolute names that a module imports, and the names of modules in its strings.

    Of `from a import b`, both `a` and `a.b` count.
    """

    imported: Sequence[str]
    quoted: Sequence[str]


def parse(source: str, package: str) -> Imports:
    """Return the imports of a module of a package. Raises SyntaxError if it is not Python."""
    return _kept().parse(source, package)


def save() -> None:
    """Keep what was parsed for later processes, if that is possible and anything is new."""
    _kept().save()


class _Kept:
    """Imports by the hash of package and source."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._parser = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self._imports: dict[str, Imports] = {}
        self._is_changed = False
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            content = json.loads(file.read_bytes())
            if content["parser"] == self._parser and len(content["imports"]) < _MOST_KEPT:
                self._imports = {key: Imports(*each) for key, each in content["imports"].items()}

    def parse(self, source: str, package: str) -> Imports:
        key = hashlib.sha256(f"{package}\n{source}".encode()).hexdigest()
        if key not in self._imports:
            self._imports[key] = _parse(source, package)
            self._is_changed = True
        return self._imports[key]

    def save(self) -> None:
        if not self._is_changed or sys.dont_write_bytecode:
            return
        written = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
        with suppress(OSError):
            self._file.parent.mkdir(exist_ok=True, parents=True)
            written.write_text(json.dumps({"parser": self._parser, "imports": self._imports}))
            written.replace(self._file)
            self._is_changed = False
        with suppress(OSError):
            written.unlink(missing_ok=True)


@functools.cache
def _kept() -> _Kept:
    return _Kept(Path(importlib.util.cache_from_source(__file__)).with_suffix(".json"))


def _parse(source: str, package: str) -> Imports:
    tree = ast.parse(source)
    quoted = set()
    if _QUOTED_NAME.search(source):  # to walk all expressions takes long
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        quoted = {v for v in constants if isinstance(v, str) and NAME.fullmatch(v)}
    return Imports(sorted(set(_imported(tree.body, package))), sorted(quoted))


def _imported(statements: Iterable[ast.stmt], package: str) -> Iterator[str]:
    for statement in statements:
        match statement:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                parents = package.split(".")
                base = parents[: len(parents) - level + 1] if level else []
                source = ".".join([*base, *([module] if module else [])])
                yield source
                yield from (f"{source}.{alias.name}" for alias in names)
            case _:
                yield from _imported(_blocks(statement), package)


def _blocks(node: ast.AST) -> Iterator[ast.stmt]:
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.stmt):
                yield child
            else:
                yield from _blocks(child)
