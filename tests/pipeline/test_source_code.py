"""Which source counts in a key."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmflow.config.compose import load
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.pipeline import source_code
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Evaluation
from tests.pipeline.test_keys import KINDS

# Modules by the steps whose keys change with them.
MODULES = {
    "fetch convert log_transformers log_genai measure evaluate register": (
        *("steps", "steps.fetch", "slmflow", "slmflow.errors", "slmflow.paths"),
        *("slmflow.config.compose", "slmflow.config.schema.evaluation", "slmflow.system.locks"),
        *("slmflow.pipeline.store", "slmflow.hub.download", "slmflow.checkpoints.files"),
    ),
    "convert log_genai measure evaluate register": (
        *("steps.convert", "slmflow.conversion.convert"),
        "slmflow.conversion.proof.runtime_process",
    ),
    "log_transformers log_genai measure evaluate register": ("slmflow.flavors.pins",),
    "log_transformers measure evaluate register": (
        *("steps.log_transformers", "slmflow.flavors.transformers_pipeline"),
    ),
    "log_genai measure evaluate register": (
        *("slmflow.flavors.genai_model", "slmflow.flavors.genai_pyfunc"),
        *("slmflow.runtime.pyfunc", "slmflow.runtime.scheduling.scheduler"),
    ),
    "measure evaluate register": ("slmflow.datasets.multiple_choice", "slmflow.measurement.worker"),
    "evaluate register": ("slmflow.metrics.scoring", "slmflow.metrics.comparison"),
    "register": ("steps.register", "slmflow.registry.gate"),
    "": (
        *("steps.main", "steps.serve", "slmflow.batch.job", "slmflow.console.messages"),
        *("slmflow.reports.tables", "slmflow.serving.worker", "slmflow.sweeps.points"),
        *("slmflow.verification.checks", "slmflow.upkeep.pruning", "slmflow.monitoring.findings"),
    ),
}
CHANGED = {module: steps for steps, modules in MODULES.items() for module in modules}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree."""
    root = tmp_path_factory.mktemp("original")
    for package in ("slmflow", "steps"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / package, root / package, ignore=ignored)
    return root


@pytest.mark.parametrize(("module", "changed"), CHANGED.items(), ids=CHANGED)
def test_edited_module_changes_the_keys_of_its_users(
    original: Path, tmp_path: Path, module: str, changed: str
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    edited = source_code.path(module, copy)
    edited.write_text(edited.read_text() + "\n")
    config = load([])

    different = [k.step for k in KINDS if key_of(k, config, copy) != key_of(k, config, original)]

    assert " ".join(different) == changed


def test_table_names_every_package() -> None:
    packages = {folder.parent.name for folder in (PROJECT / "slmflow").glob("*/__init__.py")}
    assert {name.split(".")[1] for name in CHANGED if name.count(".") > 1} == packages


@pytest.mark.parametrize(
    "source",
    [
        "import slmflow.b.c",
        "from slmflow.b import c",
        "from slmflow.b.c import VALUE",
        "from .b import c",
        "from .b.c import VALUE as value",
        "def work():\n    from slmflow.b import c",
        "try:\n    pass\nexcept OSError:\n    with x:\n        import slmflow.b.c",
        "match x:\n    case 1:\n        import slmflow.b.c",
        "command = ['-m', 'slmflow.b.c']",
        'package = f(name="slmflow.b")',
    ],
)
def test_import_is_a_dependency(tmp_path: Path, source: str) -> None:
    write(tmp_path, a=source)
    assert source_code.dependencies("slmflow.a", tmp_path) == {
        *("slmflow", "slmflow.a", "slmflow.b", "slmflow.b.c"),
    }


@pytest.mark.parametrize("source", ["import slmflowb", "x = 'slmflow.step'", "x = 'slmflow'", ""])
def test_other_names_are_no_imports(tmp_path: Path, source: str) -> None:
    write(tmp_path, a=source)
    assert source_code.dependencies("slmflow.a", tmp_path) == {"slmflow", "slmflow.a"}


def test_import_cycle_ends(tmp_path: Path) -> None:
    write(tmp_path, a="import slmflow.d", d="import slmflow.a")
    assert source_code.dependencies("slmflow.a", tmp_path) == {"slmflow", "slmflow.a", "slmflow.d"}


def write(root: Path, **modules: str) -> None:
    """Write a package `slmflow` with a sub-package `b`, a module `b.c` and these modules."""
    sources = {"__init__": "", "b/__init__": "", "b/c": "VALUE = 1", **modules}
    for name, source in sources.items():
        file = root / "slmflow" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's on Python's path, with the module `of_text`."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_text.py").write_text("raise OSError")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mine"
    source_code.function_digest.cache_clear()


def test_user_function_counts_by_its_package(mine: Path) -> None:
    def key() -> str:
        source_code.function_digest.cache_clear()
        return key_of(Evaluation, load(["evaluation.metrics=['mine.of_text:politeness']"]))

    first = key()
    assert first == key() != key_of(Evaluation, load([]))
    (mine / "helper.py").write_text("A = 1")
    second = key()
    assert second != first
    (mine / "of_text.py").write_text("raise ValueError")
    assert key() not in (first, second)
    assert "mine" not in sys.modules


def test_our_function_counts_by_its_dependencies() -> None:
    module = "slmflow.metrics.text_scores"
    assert source_code.function_digest(f"{module}:token_f1") == source_code.digest(module)


def test_standard_library_function_counts_by_its_module() -> None:
    assert source_code.function_digest("math:pow") != source_code.function_digest("json:loads")


@pytest.mark.parametrize("function", ["nowhere:f", ":f", "/mine.py:f", "mi ne:f"])
def test_missing_function_is_rejected(function: str) -> None:
    with pytest.raises(BadArguments, match="no module named"):
        key_of(Evaluation, load([f"evaluation.metrics=['{function}']"]))
