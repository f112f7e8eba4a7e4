"""The source code behind a result, according to static analysis of imports.

A module depends on every module of ours that it imports, at the top or inside a function, directly
or through others, and on the `__init__` of each package on the way. A string that is the name of a
module counts as an import, as in `[sys.executable, "-m", "slmflow.measurement.worker"]`; a string
that is the name of a package counts all its modules. Nothing is imported.
"""

import ast
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.pipeline import digests

# Packages that cannot shape a result: they only show it to people.
_EXCLUDED = ("slmflow.console", "slmflow.reports")

_OURS = ("slmflow", "steps")
_NAME = re.compile(rf"({'|'.join(_OURS)})(\.\w+)*")
_QUOTED_NAME = re.compile(rf"[\"']{_NAME.pattern}[\"']")


@functools.cache
def digest(entry: str, root: Path = PROJECT) -> str:
    """Return a sha256 over the source of a module of ours and of all that it depends on."""
    names = dependencies(entry, root)
    return _digest((name, path(name, root).read_bytes()) for name in names)


@functools.cache
def function_digest(function: str) -> str:
    """Return a sha256 over the source of a user's function, `module:function`.

    A module of ours counts with all that it depends on. Of the user's own code all Python files of
    the top-level package count, but not what it imports from elsewhere. Raises BadArguments if
    there is no such module.
    """
    module = function.partition(":")[0]
    top = module.partition(".")[0]
    if top in _OURS and path(module).is_file():
        return digest(module)
    spec = importlib.util.find_spec(top) if top.isidentifier() else None
    if spec is None:
        raise BadArguments(
            f"{function}: no module named {top!r}; put it in {PROJECT}, install it, or add its "
            "folder to PYTHONPATH"
        )
    if folders := spec.submodule_search_locations:
        files = [(f.relative_to(d).as_posix(), f) for d in map(Path, folders) for f in _sources(d)]
        return _digest((name, file.read_bytes()) for name, file in files)
    file = Path(spec.origin or "")
    return digests.sha256(file) if file.is_file() else sys.version  # built into Python


@functools.cache
def dependencies(entry: str, root: Path = PROJECT) -> frozenset[str]:
    """Return the names of a module and of all modules of ours that it depends on."""
    names: set[str] = set()
    pending = [entry]
    while pending:
        name = pending.pop()
        if name not in names:
            names.add(name)
            pending += _direct_dependencies(name, root)
    return frozenset(names)


def path(name: str, root: Path = PROJECT) -> Path:
    """Return the file of a module of ours; of a package, its `__init__.py`."""
    base = root.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _direct_dependencies(name: str, root: Path) -> frozenset[str]:
    file = path(name, root)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported, quoted = _parse(file.read_text(), package)
    names = {package, *imported, *(each for text in quoted for each in _modules(text, root))}
    names |= {parent for each in names for parent in _parents(each)}
    return frozenset(
        each
        for each in names
        if _NAME.fullmatch(each) and not _is_excluded(each) and path(each, root).is_file()
    )


@functools.cache
def _parse(source: str, package: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a module of a package imports, and those that its strings hold."""
    tree = ast.parse(source)
    quoted = []
    if _QUOTED_NAME.search(source):  # to walk all expressions takes long
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        quoted = [v for v in constants if isinstance(v, str) and _NAME.fullmatch(v)]
    return frozenset(_imported(tree.body, package)), frozenset(quoted)


def _imported(statements: Iterable[ast.stmt], package: str) -> Iterator[str]:
    """Yield the absolute name of all that is imported; of `from a import b`, `a` and `a.b`."""
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


def _modules(name: str, root: Path) -> Iterator[str]:
    """Yield a module, or a package and all its modules; the project's name is no package here."""
    if name in _OURS:
        return
    yield name
    for file in _sources(root.joinpath(*name.split("."))):
        yield ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _is_excluded(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in _EXCLUDED)


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _digest(sources: Iterable[tuple[str, bytes]]) -> str:
    listing = sorted(f"{name} {hashlib.sha256(source).hexdigest()}" for name, source in sources)
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()
