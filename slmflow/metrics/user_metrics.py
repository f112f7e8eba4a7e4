"""Metrics named in `evaluation.metrics`: Python functions, built in or the user's own.

A bare name is a function of `opt_in`. `evaluation.metrics=[my_package.my_module:my_function]` is a
function `(answer, expected) -> number` of texts, where more is better: of several accepted answers,
the one with the highest score counts. Its module is imported as usual: from the project's folder,
from an installed package, or from a folder of PYTHONPATH. It runs as the user's own code.
"""

import dataclasses
import importlib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from slmflow.errors import BadArguments, UserError
from slmflow.metrics.model_metrics import COLUMNS, SHARE, SUFFIXES, MetricColumn
from slmflow.metrics.opt_in import BUILT_IN
from slmflow.paths import PROJECT

_FUNCTION = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class UserMetric:
    """A scoring function.

    spec: `module:function`, or the name of a built-in function; is_share: whether the function
    returns a bool, so that its mean is a share of the rows.
    """

    name: str
    spec: str
    function: Callable[[str, str], Any]
    is_share: bool = False

    @property
    def column(self) -> MetricColumn:
        """The column of the comparison; its meaning is the first line of the docstring."""
        lines = (inspect.getdoc(self.function) or "").splitlines()
        meaning = lines[0].rstrip(". ") if lines else f"mean of {self.spec}"
        return MetricColumn(meaning, SHARE if self.is_share else "{:,.4g}", SUFFIXES)

    def score(self, answer: str, expected: str) -> float:
        """Score an answer. Raises UserError if the function fails or returns no finite number."""
        return float(self.call(answer, expected))

    def call(self, answer: str, expected: str) -> Real:
        """Score an answer; return the function's value unconverted."""
        try:
            value = self.function(answer, expected)
        except Exception as error:
            raise self._error(answer, expected, f"{type(error).__name__}: {error}") from error
        if not isinstance(value, Real) or not math.isfinite(value):
            reason = f"it returned {value!r}; return a finite number, such as 0 or 0.5"
            raise self._error(answer, expected, reason)
        return value

    def _error(self, answer: str, expected: str, reason: str) -> UserError:
        texts = f"the answer {reprlib.repr(answer)} where {reprlib.repr(expected)} is expected"
        return UserError(f"evaluation.metrics: {self.spec} cannot score {texts}: {reason}")


def load(specs: Sequence[str], example: str) -> list[UserMetric]:
    """Import the functions, and test each by scoring the text `example` against itself.

    Raises BadArguments, with all problems in one message, for a module that cannot be imported, an
    object that is not a function, a name that is already a column, or a failed test.
    """
    metrics, problems, columns = [], [], set(COLUMNS)
    for spec in specs:
        try:
            metric = _import(spec)
            new_columns = {metric.name, *(metric.name + suffix for suffix in SUFFIXES)}
            if duplicates := sorted(new_columns & columns):
                raise BadArguments(
                    f"evaluation.metrics: {spec}: the comparison already has a column "
                    f"{duplicates[0]}; rename the function"
                )
            columns |= new_columns
            is_share = isinstance(metric.call(example, example), bool)
            metrics.append(dataclasses.replace(metric, is_share=is_share))
        except UserError as problem:
            problems.append(str(problem))
    if problems:
        raise BadArguments("\n".join(problems))
    return metrics


def _import(spec: str) -> UserMetric:
    if spec in BUILT_IN:
        return UserMetric(spec, spec, BUILT_IN[spec])
    if not _FUNCTION.fullmatch(spec):
        raise BadArguments(
            f"evaluation.metrics: {spec!r} is not a function: give module:function, e.g. "
            f"[my_package.my_module:my_function], or a built-in metric: {', '.join(BUILT_IN)}"
        )
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's code may raise anything
        raise BadArguments(
            f"evaluation.metrics: {spec} cannot be imported ({type(error).__name__}: {error}): fix "
            f"it, or put it where Python finds it: in {PROJECT}, in an installed package, or in a "
            "folder of PYTHONPATH"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        reason = f"{name} is not a function" if hasattr(module, name) else f"there is no {name}"
        raise BadArguments(f"evaluation.metrics: {spec}: {reason} in {module_name}")
    return UserMetric(name, spec, function)
