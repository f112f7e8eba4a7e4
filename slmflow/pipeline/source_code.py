"""The source code behind a result, according to static analysis of imports.

A module depends on every module of ours that it imports, at the top or inside a function, directly
or through others, and on the `__init__` of each package on the way. A string that is the name of a
module counts as an import, as in `[sys.executable, "-m", "slmflow.measurement.worker"]`; a string
that is the name of a package counts all its modules. Nothing is imported.
"""

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.pipeline import digests, source_imports
from slmflow.pipeline.source_imports import NAME, PACKAGES

# Packages that cannot shape a result: they only show it to people.
_EXCLUDED = ("slmflow.console", "slmflow.reports")


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
    if top in PACKAGES and path(module).is_file():
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
    source_imports.save()
    return frozenset(names)


def path(name: str, root: Path = PROJECT) -> Path:
    """Return the file of a module of ours; of a package, its `__init__.py`."""
    base = root.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _direct_dependencies(name: str, root: Path) -> frozenset[str]:
    file = path(name, root)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported, quoted = source_imports.parse(file.read_text(), package)
    names = {package, *imported, *(each for text in quoted for each in _modules(text, root))}
    names |= {parent for each in names for parent in _parents(each)}
    return frozenset(
        each
        for each in names
        if NAME.fullmatch(each) and not _is_excluded(each) and path(each, root).is_file()
    )


def _modules(name: str, root: Path) -> Iterator[str]:
    """Yield a module, or a package and all its modules; the project's name is no package here."""
    if name in PACKAGES:
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
