"""Only `steps` sets environment variables and hooks on import; the library does not."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from slmflow.paths import PROJECT

# A logged model is also loaded without the steps, by `mlflow models serve`.
ALLOWED = {"slmflow/runtime/generation/genai.py"}

PROBE = """
import importlib, json, os, sys
before = dict(os.environ)
importlib.import_module(sys.argv[1])
changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
print(json.dumps([changed, sys.excepthook is sys.__excepthook__]))
"""


def import_in_child(module: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_importing_the_library_changes_nothing() -> None:
    assert import_in_child("slmflow") == "[{}, true]\n"


def test_importing_the_steps_sets_the_defaults() -> None:
    output = import_in_child("steps")
    assert '"MLFLOW_DISABLE_TELEMETRY": "true"' in output
    assert '"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4"' in output
    assert output.endswith("false]\n")


def test_users_variables_stay() -> None:
    assert "RETRIES" not in import_in_child("steps", MLFLOW_HTTP_REQUEST_MAX_RETRIES="9")


def test_library_module_sets_no_variable_or_hook_on_import() -> None:
    changing = {
        file.relative_to(PROJECT).as_posix()
        for file in PROJECT.glob("slmflow/**/*.py")
        if {"environ", "putenv", "excepthook"} & set(names_used_on_import(file))
    }
    assert changing <= ALLOWED


def names_used_on_import(file: Path) -> Iterator[str]:
    """Yield the attributes that a module uses outside its functions."""
    pending: list[ast.AST] = list(ast.parse(file.read_text()).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Attribute):
            yield node.attr
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
