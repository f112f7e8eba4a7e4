"""Further metrics: Python functions that `evaluation.metrics` names, built in or the user's own.

A bare name is that of a function of `builtin_metrics`.
`evaluation.metrics=[my_package.my_module:my_function]` is a function `(answer, expected) -> number`
of texts. Its module is imported as any other: from the project's folder, from what is installed, or
from a folder of PYTHONPATH. It is the user's code and runs as such.
"""

import dataclasses
import importlib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from slmflow.errors import BadArguments, UserError
from slmflow.metrics.builtin import BUILT_IN
from slmflow.paths import PROJECT

_FUNCTION = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*", re.ASCII | re.IGNORECASE)

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


def _imported(where: str) -> UserMetric:
    _refuse_malformed(where)
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


def _refuse_malformed(where: str) -> None:
    if where not in BUILT_IN and not _FUNCTION.fullmatch(where):
        raise BadArguments(
            f"evaluation.metrics: {where!r} names no function: give module:function, e.g. "
            f"[my_package.my_module:my_function], or a built-in one: {', '.join(BUILT_IN)}"
        )


def _not_found(where: str, reason: str) -> BadArguments:
    return BadArguments(
        f"evaluation.metrics: {where} cannot be imported ({reason}): mend it, or put it where "
        f"Python finds it: in {PROJECT}, installed, or in a folder that PYTHONPATH names"
    )
