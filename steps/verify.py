"""Verify a logged model against its provenance, offline; sign it if asked.

mlflow run . -e verify --env-manager uv -P model_uri=models:/slmflow-tiny_phi3@candidate
python -m steps.verify verify.model_uri=models:/slmflow-tiny_phi3@candidate
"""

import mlflow

from slmflow.console import messages, progress_bars
from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.verification import checks, model_folder, signatures
from slmflow.verification.findings import describe_differences, differences
from slmflow.verification.recorded_model import RecordedModel


def verify(step: Step) -> None:
    """Check the model's files, provenance and signature; sign it if asked and nothing differs.

    Raises UserError, with every difference, if anything differs.
    """
    settings = step.config.verify
    model_uri = model_uris.resolve(settings.model_uri, step.config)
    with model_folder.open_local(model_uri) as folder:
        with progress_bars.spinner(f"checking {model_uri}"):
            model = RecordedModel.read(folder, model_uri)
            findings = checks.run_checks(model, model_uri)
        if settings.sign_with and not differences(findings):
            key, run_id = PROJECT / settings.sign_with, step.run.info.run_id
            findings.append(signatures.sign_model(folder, key, model.model_id, run_id))
        if settings.public_key:
            key = PROJECT / settings.public_key
            signature = PROJECT / settings.signature if settings.signature else None
            findings.append(signatures.verify_signature(folder, key, signature, model.model_id))
        elif not settings.sign_with:
            findings.append(signatures.report_unchecked(model.model_id))
    mlflow.log_dict({"checks": [finding.to_json() for finding in findings]}, "verification.json")
    for finding in findings:
        messages.info(f"{finding.check:<10} {finding.state.value:<12} {finding.detail}")
    if differing := differences(findings):
        raise UserError(describe_differences(differing, model_uri, model.model_id))


if __name__ == "__main__":
    run_step("verify", verify)
