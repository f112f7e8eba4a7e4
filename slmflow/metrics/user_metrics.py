"""Further metrics: Python functions that `evaluation.metrics` names, built in or the user's own.

A bare name is that of a function of `builtin_metrics`.
`evaluation.metrics=[my_package.my_module:my_function]` is a function `(answer, expected) -> number`
of texts. Its module is imported as any other: from the project's folder, from what is installed, or
from a folder of PYTHONPATH. It is the user's code and runs as such.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import math
import reprlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from slmflow.errors import BadArguments, UserError
from slmflow.metrics import builtin
from slmflow.metrics.builtin import BUILT_IN
from slmflow.paths import PROJECT
from slmflow.pipeline import store

SUFFIXES = ("_low", "_high", "_p")
"""What follows a metric's name in its further columns of the comparison."""


@dataclass(frozen=True)
class UserMetric:
    """A function; `name` is the function's, `where` the whole `module:function`.

    share: whether it says yes or no, so that its mean is a share of the rows.
    """

    name: str
    where: str
    function: Callable[[str, str], Any]
    share: bool = False

    @property
    def meaning(self) -> str:
        """What the figure is: the first line of the function's docstring, if it has one."""
        lines = (inspect.getdoc(self.function) or "").splitlines()
        return lines[0].rstrip(". ") if lines else f"mean of {self.where}"

    def score(self, answer: str, expected: str) -> float:
        """Return what the function gives. Raises UserError where it fails or gives no number."""
        return float(self.given(answer, expected))

    def given(self, answer: str, expected: str) -> Real:
        """Return the same in the type that the function gives."""
        try:
            given = self.function(answer, expected)
        except Exception as error:
            raise self._fault(answer, expected, f"{type(error).__name__}: {error}") from error
        if not isinstance(given, Real) or not math.isfinite(given):
            wanted = "a finite number is wanted, such as 0 or 0.5"
            raise self._fault(answer, expected, f"it gave {given!r}; {wanted}")
        return given

    def _fault(self, answer: str, expected: str, reason: str) -> UserError:
        texts = f"the answer {reprlib.repr(answer)} where {reprlib.repr(expected)} is expected"
        return UserError(f"evaluation.metrics: {self.where} cannot score {texts}: {reason}")


def load(names: Sequence[str], taken: Iterable[str], example: str) -> list[UserMetric]:
    """Import the functions, and have each score a text, `example`, against itself.

    taken: columns of the comparison. Raises BadArguments, with all problems in one message, for a
    module that cannot be imported, what is no function in it, a name that is taken, and a function
    that fails on the example.
    """
    metrics, problems, columns = [], [], set(taken)
    for where in names:
        try:
            metric = _imported(where)
            own = {metric.name, *(metric.name + suffix for suffix in SUFFIXES)}
            if clash := sorted(own & columns):
                raise BadArguments(
                    f"evaluation.metrics: {where}: the comparison has a column {clash[0]} already; "
                    "give the function another name"
                )
            columns |= own
            share = isinstance(metric.given(example, example), bool)
            metrics.append(dataclasses.replace(metric, share=share))
        except UserError as problem:
            problems.append(str(problem))
    if problems:
        raise BadArguments("\n".join(problems))
    return metrics


@functools.cache
def source_digest(where: str) -> str:
    """Return a sha256 over the source of the top-level module or package of `module:function`.

    Of a package all its Python files count, so also helpers beside the function; what it imports
    from elsewhere does not. Of a built-in function it is the module of these. Nothing is imported.
    Raises BadArguments where there is no such module.
    """
    if where in BUILT_IN:
        return store.sha256(Path(builtin.__file__))
    root = where.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(root)
    if spec is None:
        raise _not_found(where, f"No module named {root!r}")
    if folders := spec.submodule_search_locations:
        files = sorted((f.relative_to(d), f) for d in map(Path, folders) for f in d.rglob("*.py"))
        texts = "".join(f"{name} {store.sha256(file)}\n" for name, file in files)
    else:
        file = Path(spec.origin or "")
        texts = store.sha256(file) if file.is_file() else sys.version  # built into Python
    return hashlib.sha256(texts.encode()).hexdigest()


def _imported(where: str) -> UserMetric:
    if where in BUILT_IN:
        return UserMetric(where, where, BUILT_IN[where])
    module_name, _, name = where.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's own code raises
        raise _not_found(where, f"{type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        reason = "is no function" if hasattr(module, name) else "is not there"
        raise BadArguments(f"evaluation.metrics: {where}: {name} {reason} in {module_name}")
    return UserMetric(name, where, function)


def _not_found(where: str, reason: str) -> BadArguments:
    return BadArguments(
        f"evaluation.metrics: {where} cannot be imported ({reason}): mend it, or put it where "
        f"Python finds it: in {PROJECT}, installed, or in a folder that PYTHONPATH names"
    )
