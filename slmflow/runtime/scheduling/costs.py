"""How long the model takes, as far as it was measured: what the scheduler weighs."""

from statistics import fmean, linear_regression

# Of the measured value, how much the next one counts: a machine has other work, too.
_NEW = 0.2

# Until it was measured: a step costs about as much as reading so many tokens of a prompt, and so
# many for each of its rows. As on two cores with int4 weights (220 million parameters; with the
# widths of Phi-3-mini 2.4 and 1.0).
_STEP_TOKENS, _ROW_TOKENS = 3.3, 1.6


class Costs:
    """Seconds of a token of a prompt, and of a step, which grow in a line with its rows."""

    def __init__(self) -> None:
        """Know nothing but how the two are to each other."""
        self._token_s = 1.0
        self._step_s: dict[int, float] = {}
        self._line: tuple[float, float] | None = None

    def read(self, tokens: int, seconds: float) -> None:
        """Note how long it took to read so many tokens of prompts, with padding."""
        self._token_s = seconds / tokens

    def stepped(self, rows: int, seconds: float) -> None:
        """Note how long a step of a batch with so many rows took."""
        before = self._step_s.get(rows, seconds)
        self._step_s[rows] = before + _NEW * (seconds - before)
        self._line = None

    def reading_s(self, tokens: int) -> float:
        """Return how long it takes to read so many tokens of prompts, with padding."""
        return self._token_s * tokens

    def step_s(self, rows: int) -> float:
        """Return how long a step of a batch with so many rows takes."""
        own, row = self._fitted()
        return own + row * rows

    @property
    def own_s(self) -> float:
        """What a step costs that is not for its rows: what each further batch adds."""
        return self._fitted()[0]

    def _fitted(self) -> tuple[float, float]:
        if self._line is None:
            self._line = self._fit()
        return self._line

    def _fit(self) -> tuple[float, float]:
        if not self._step_s:
            return self._token_s * _STEP_TOKENS, self._token_s * _ROW_TOKENS
        middle, mean = fmean(self._step_s), fmean(self._step_s.values())
        if len(self._step_s) == 1:
            row = mean / (_STEP_TOKENS / _ROW_TOKENS + middle)
        else:
            row = linear_regression(list(self._step_s), list(self._step_s.values())).slope
        # Noise must not make a step free: it reads all weights, and so costs more than a row.
        row = min(max(row, 0.0), mean / (1 + middle))
        return mean - row * middle, row
