"""Text to calibrate quantization on, and text to judge it by: `calibration.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file, is_folder

MIN_TOKENS, MAX_TOKENS = 512, 262_144
"""The tokens that calibration may use: one window, and what still fits the memory of its pass."""


BUNDLED_TEXT = "bundled/calibration"
"""The text that calibration uses unless another is given."""


@dataclass
class Calibration:
    """The calibration text of algorithm=gptq, and the held-out text of every conversion."""

    data: str = config_key(
        Kind.path, "text to calibrate on: a UTF-8 text file, or a folder of .txt files"
    )
    held_out: str = config_key(
        Kind.path, "other text, to measure the converted model on: a file, or a folder likewise"
    )
    tokens: int | None = config_key(
        Kind.value,
        "tokens of the text that calibration uses; null: 8192, or 3072 for a model of a billion "
        "parameters or more",
        None,
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        missing = list(self._missing_texts())
        yield from missing
        if not missing and self.data_path.samefile(self.held_out_path):
            yield (
                f"calibration.held_out={self.held_out!r}: is calibration.data too, so the model "
                "would be judged by the text it was fitted to: give other text"
            )
        if self.tokens is not None and not MIN_TOKENS <= self.tokens <= MAX_TOKENS:
            yield f"calibration.tokens={self.tokens}: must be {MIN_TOKENS} to {MAX_TOKENS}"

    def _missing_texts(self) -> Iterator[str]:
        for name, path in self.paths.items():
            given: str = getattr(self, name)
            if not given or not (is_file(path) or is_folder(path)):
                yield (
                    f"calibration.{name}={given!r}: there is no file or folder {path}: give a text "
                    "file, or a folder of .txt files"
                )

    @property
    def data_path(self) -> Path:
        """Absolute path of the text to calibrate on."""
        return PROJECT / self.data

    @property
    def held_out_path(self) -> Path:
        """Absolute path of the text to measure on."""
        return PROJECT / self.held_out

    @property
    def paths(self) -> dict[str, Path]:
        """Absolute paths of both texts, by the name of their key."""
        return {"data": self.data_path, "held_out": self.held_out_path}
