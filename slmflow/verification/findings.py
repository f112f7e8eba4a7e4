"""The outcome of a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Whether something is as recorded."""

    holds = "holds"
    differs = "differs"
    unchecked = "not checked"


@dataclass(frozen=True)
class Finding:
    """The outcome of a check; detail: the evidence, or why nothing could be checked."""

    check: str
    state: State
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the fields as a JSON object."""
        return {"check": self.check, "state": self.state.value, "detail": self.detail}


def differences(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that differ from the record."""
    return [finding for finding in findings if finding.state is State.differs]


def describe_differences(differing: Sequence[Finding], model_uri: str, model_id: str) -> str:
    """Return the error message for findings that differ: what they are, and what to do.

    model_id: the logged model's id; empty if the model has none.
    """
    details = "\n".join(f"{finding.check}: {finding.detail}" for finding in differing)
    if all(finding.check == "signature" for finding in differing):
        return f"{model_uri} has no valid signature:\n{details}"
    message = f"{model_uri} is not what was logged. Do not use it:\n{details}"
    if not model_id:
        return message
    return (
        f"{message}\nTo build it again, delete {model_id} (in the UI, or with "
        "MlflowClient().delete_logged_model), because a model that exists is reused; then run the "
        "workflow again"
    )
