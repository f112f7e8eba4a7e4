"""Shapes of the random models by name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Layers, widths and lengths of a Phi-3 model; widths are numbers of elements."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int = 32064
    context_length: int = 4096
    sliding_window: int | None = None


# `tiny` is for trying a benchmark out. `phi3_mini` has the shape of Phi-3-mini, and
# `phi3_mini_8_layers` has its widths.
SHAPES = {
    "tiny": Shape(layers=2, hidden=64, intermediate=128, heads=4, vocabulary=1024),
    "phi3_220m": Shape(layers=12, hidden=1024, intermediate=2816, heads=16),
    "phi3_mini_8_layers": Shape(
        layers=8, hidden=3072, intermediate=8192, heads=32, sliding_window=2047
    ),
    "phi3_mini": Shape(layers=32, hidden=3072, intermediate=8192, heads=32, sliding_window=2047),
}
