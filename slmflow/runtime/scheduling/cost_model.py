"""Predict how long prefill and decode steps take, from measurements, for the scheduler."""

from statistics import fmean, linear_regression

# Weight of a new measurement in the moving average: other processes disturb single values.
_NEW_WEIGHT = 0.2

# Before any step is measured: its fixed cost and its cost per row, in prompt tokens. Measured on
# two cores with int4 weights and 220 million parameters. Phi-3-mini's widths have 2.4 and 1.0.
_STEP_TOKENS, _ROW_TOKENS = 3.3, 1.6

# Fewer prompt tokens than these take longer each: the weights are read once for all.
_MANY_TOKENS = 32


class CostModel:
    """Seconds per prompt token, and per decode step as a linear function of its rows."""

    def __init__(self) -> None:
        """Start with the ratios above; one prompt token counts as a second until measured."""
        self._token_s = 1.0
        self._measured_tokens = 0
        self._step_s: dict[int, float] = {}
        self._line: tuple[float, float] | None = None

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Record the duration of a prefill of `tokens` tokens, padding included."""
        if tokens >= min(_MANY_TOKENS, self._measured_tokens):
            self._token_s, self._measured_tokens = seconds / tokens, tokens

    def record_step(self, rows: int, seconds: float) -> None:
        """Record the duration of a decode step of a batch of `rows` requests."""
        average = self._step_s.get(rows, seconds)
        self._step_s[rows] = average + _NEW_WEIGHT * (seconds - average)
        self._line = None

    def prefill_s(self, tokens: int) -> float:
        """Return the seconds to prefill `tokens` tokens, padding included."""
        return self._token_s * tokens

    def tokens_in(self, seconds: float) -> int:
        """Return how many prompt tokens can be read in so many seconds, 0 until measured."""
        return int(seconds / self._token_s) if self._measured_tokens else 0

    def step_s(self, rows: int) -> float:
        """Return the seconds of a decode step of a batch of `rows` requests."""
        fixed, per_row = self._fitted()
        return fixed + per_row * rows

    @property
    def step_overhead_s(self) -> float:
        """Seconds of a decode step that do not depend on its rows: the cost of one more batch."""
        return self._fitted()[0]

    def _fitted(self) -> tuple[float, float]:
        if self._line is None:
            self._line = self._fit()
        return self._line

    def _fit(self) -> tuple[float, float]:
        if not self._step_s:
            return self._token_s * _STEP_TOKENS, self._token_s * _ROW_TOKENS
        mean_rows, mean_s = fmean(self._step_s), fmean(self._step_s.values())
        if len(self._step_s) == 1:
            per_row = mean_s / (_STEP_TOKENS / _ROW_TOKENS + mean_rows)
        else:
            per_row = linear_regression(list(self._step_s), list(self._step_s.values())).slope
        # Noise must not make a step free: it reads all weights, so it costs more than a row.
        per_row = min(max(per_row, 0.0), mean_s / (1 + mean_rows))
        return mean_s - per_row * mean_rows, per_row
