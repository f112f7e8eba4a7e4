"""The code of a logged GenAI model (models from code): it loads the package `runtime` beside it.

The package gets a module name derived from its content: one process may load models logged by
different versions of slmflow, and each runs the code it was logged with.
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
# In the repository, or in a logged model.
_RUNTIME = next(
    path for path in (_HERE.parent / "runtime", _HERE / "code" / "runtime") if path.is_dir()
)


def _load_package(package: Path) -> str:
    """Import the package unless this process already has, and return its module name."""
    sources = sorted(package.rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    name = f"slmflow_runtime_{digest[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(
            name, package / "__init__.py", submodule_search_locations=[str(package)]
        )
        # None only for a file of an unknown type.
        assert spec is not None and spec.loader is not None  # noqa: S101
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write no bytecode: the model may be loaded straight from the artifact store."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _remove_own_bytecode() -> None:
    """Remove the bytecode that the import of this module wrote.

    It lies in the model's folder, where `verify` would report it as an added file.
    """
    bytecode = Path(cache_from_source(__file__))
    with suppress(OSError):
        bytecode.unlink()
        bytecode.parent.rmdir()


with _no_bytecode():
    _PYFUNC = import_module(f"{_load_package(_RUNTIME)}.pyfunc")
_remove_own_bytecode()
mlflow.models.set_model(_PYFUNC.GenaiPyfunc())
