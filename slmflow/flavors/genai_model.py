"""The GenAI model as MLflow runs it (models from code): its package `runtime`, loaded from beside.

Under a name of its own, made of its content: a process may load models that other versions of
slmflow have logged, and each runs what it was logged with.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location
from pathlib import Path

import mlflow

_HERE = Path(__file__).parent
# Where it is logged from, and where MLflow puts a logged model's code.
_PACKAGE = next(
    path for path in (_HERE.parent / "runtime", _HERE / "code" / "runtime") if path.is_dir()
)


def _load(package: Path) -> str:
    """Load the package, unless this process has, and return the name it is loaded under."""
    sources = sorted(package.rglob("*.py"))
    content = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    name = f"slmflow_runtime_{content[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(
            name, package / "__init__.py", submodule_search_locations=[str(package)]
        )
        # Only a file of an unknown kind has none.
        assert spec is not None and spec.loader is not None  # noqa: S101
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name


@contextmanager
def _nothing_compiled_kept() -> Iterator[None]:
    """Leave the folder as it was logged: a model may be loaded where the server keeps it."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _forget_compiled() -> None:
    """Remove the bytecode of this module: whoever loads it keeps that beside it, and `verify`
    would name it as no file of the model's.
    """
    compiled = Path(cache_from_source(__file__))
    with suppress(OSError):
        compiled.unlink()
        compiled.parent.rmdir()


with _nothing_compiled_kept():
    _PYFUNC = import_module(f"{_load(_PACKAGE)}.pyfunc")
_forget_compiled()
mlflow.models.set_model(_PYFUNC.GenaiPyfunc())
