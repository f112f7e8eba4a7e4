"""Check a logged model against what it carries of where it comes from, offline; sign it if asked.

mlflow run . -e verify --env-manager uv -P model_uri=models:/slmflow-tiny_phi3@candidate
python -m steps.verify verify.model_uri=models:/slmflow-tiny_phi3@candidate
"""

from slmflow.console import progress_bars
import mlflow

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline import model_uris
from slmflow.pipeline.step import Step, run_step
from slmflow.verification import checks, model_folder, signatures
from slmflow.verification.findings import Finding, State
from slmflow.verification.recorded import Carried


def verify(step: Step) -> None:
    """Check the model's files, origins and signature, tell what was found, sign what holds.

    Raises UserError, with every file that differs, where anything does.
    """
    settings = step.config.verify
    address = model_uris.resolve(settings.model_uri, step.config.registry)
    with model_folder.local("verify.model_uri", address) as folder:
        with progress_bars.spinner(f"checking {address}"):
            carried = Carried.read(folder, address)
            found = checks.of(carried, address)
        if settings.sign_with and not any(f.state is State.differs for f in found):
            key, run_id = PROJECT / settings.sign_with, step.run.info.run_id
            found.append(signatures.sign(folder, key, carried.model_id, run_id))
        if settings.public_key:
            given = PROJECT / settings.signature if settings.signature else None
            found.append(
                signatures.check(folder, PROJECT / settings.public_key, given, carried.model_id)
            )
        elif not settings.sign_with:
            found.append(signatures.unchecked(carried.model_id))
    mlflow.log_dict({"checks": [finding.to_json() for finding in found]}, "verification.json")
    for finding in found:
        messages.info(f"{finding.check:<10} {finding.state.value:<12} {finding.told}")
    if differing := [finding for finding in found if finding.state is State.differs]:
        raise UserError(_refusal(differing, address, carried))


def _refusal(differing: list[Finding], address: str, carried: Carried) -> str:
    told = "\n".join(f"{finding.check}: {finding.told}" for finding in differing)
    if all(finding.check == "signature" for finding in differing):
        return f"{address} has no signature that holds:\n{told}"
    refused = f"{address} is not what was logged. Do not use it:\n{told}"
    if not carried.model_id:
        return refused
    return (
        f"{refused}\nTo make it anew, delete {carried.model_id} (in the UI, or by MlflowClient()"
        ".delete_logged_model), else it is found and reused, and run the workflow again"
    )


if __name__ == "__main__":
    run_step("verify", verify)
