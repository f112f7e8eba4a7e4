"""Numbers on the command line of the benchmarks."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import batch, quantization, serving, speed, sweep


@pytest.mark.parametrize(
    ("module", "option", "value", "minimum"),
    [
        *((each, "--rounds", 0, 1) for each in (batch, quantization, serving, speed, sweep)),
        (batch, "--rows", 0, 1),
        (serving, "--requests", 1, 2),
        (speed, "--prompts", 0, 1),
        (speed, "--new-tokens", 0, 1),
    ],
)
def test_too_small_number_is_rejected(
    module: ModuleType,
    option: str,
    value: int,
    minimum: int,
    call_main: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call_main(module, option, value, "--output", tmp_path)

    assert f"argument {option}: must be at least {minimum}" in capsys.readouterr().err
