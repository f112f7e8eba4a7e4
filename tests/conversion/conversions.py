"""Conversion of a checkpoint to a named target."""

from pathlib import Path

from slmflow.config.compose import load
from slmflow.config.schema.target import ExporterName, Target
from slmflow.conversion.convert import convert_model
from slmflow.conversion.record import ConversionRecord


def target(name: str, *overrides: str) -> Target:
    """Return a target of `conf/target`, with values overridden."""
    return load([f"target={name}", *overrides]).target


def convert(
    weights: Path,
    folder: Path,
    target_name: str,
    *overrides: str,
    exporter: ExporterName = ExporterName.optimum,
) -> ConversionRecord:
    """Convert a checkpoint into a new folder; return the record."""
    folder.mkdir()
    config = load([f"target={target_name}", *overrides])
    convert_model(weights, folder, config.target, exporter, config.calibration)
    return ConversionRecord.read(folder)
