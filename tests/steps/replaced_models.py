"""Small MLflow models instead of those that other steps log, and rows to evaluate them on."""

import json
from pathlib import Path
from typing import Any

from slmflow.paths import PROJECT
from slmflow.pipeline.results import Measurements, OnnxModel, TransformersModel, Weights
from slmflow.pipeline.step import Step
from steps.measure import measure
from tests.measurement.models.logged import log_model

TINY_PHI3 = PROJECT / "bundled" / "tiny_phi3"


def ensure_with(transformers: tuple[Any, ...], genai: tuple[Any, ...]) -> Any:
    """Return a replacement for `Step.ensure` that really measures these models."""

    def ensure(step: Step, kind: Any) -> Any:
        if kind is Measurements:
            return measure(step)
        if kind in (Weights, OnnxModel):
            return kind(str(TINY_PHI3))
        return log_model(kind, *(transformers if kind is TransformersModel else genai))

    return ensure


def write_rows(folder: Path, *rows: tuple[str, str], **columns: Any) -> Path:
    """Write rows of a question and an answer, with further columns that all rows share."""
    file = folder / "rows.jsonl"
    lines = [json.dumps({"question": q, "answer": a, **columns}) for q, a in rows]
    file.write_text("\n".join(lines))
    return file
