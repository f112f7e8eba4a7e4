"""Targets that this machine cannot run are rejected."""

import pytest

from slmflow.config.compose import load
from slmflow.errors import UserError
from slmflow.measurement import execution_providers


def test_cpu_target_runs_everywhere() -> None:
    execution_providers.check(load(["target=cpu_int4"]).target)


@pytest.mark.parametrize(("target", "provider"), [("cuda_int4", "cuda"), ("dml_int4", "dml")])
def test_missing_provider_is_rejected_by_name(
    target: str, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"onnxruntime_genai.is_{provider}_available", lambda: False)
    with pytest.raises(UserError, match=f"target={target}.*no {provider} provider.*-e log_genai"):
        execution_providers.check(load([f"target={target}"]).target)
