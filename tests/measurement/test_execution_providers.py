"""The refusal of a target that this machine cannot run."""

import pytest

from slmflow.config.compose import load
from slmflow.errors import UserError
from slmflow.measurement import execution_providers


def test_every_machine_has_the_cpu() -> None:
    execution_providers.check(load(["target=cpu_int4"]).target)


@pytest.mark.parametrize(("target", "asked"), [("cuda_int4", "cuda"), ("dml_int4", "dml")])
def test_a_missing_provider_is_named(
    target: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"onnxruntime_genai.is_{asked}_available", lambda: False)
    with pytest.raises(UserError, match=f"target={target}.*no {asked} provider.*-e log_genai"):
        execution_providers.check(load([f"target={target}"]).target)
