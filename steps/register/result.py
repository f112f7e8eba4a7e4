"""What register hands on."""

from dataclasses import dataclass
from typing import ClassVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from steps.common.results import Result, Stale
from steps.evaluate.result import Evaluation


@dataclass(frozen=True)
class ModelVersion(Result):
    """A version of a registered model, under an alias."""

    step: ClassVar = "register"
    reads: ClassVar = ("registry",)
    consumes: ClassVar = (Evaluation,)
    packages: ClassVar = ("mlflow",)

    name: str
    version: str
    alias: str
    flavor: str
    reason: str

    @property
    def summary(self) -> str:
        """What was registered and why, for people."""
        return (
            f"{self.flavor} ({self.reason}) is models:/{self.name}/{self.version}, "
            f"alias {self.alias}"
        )

    def check(self) -> None:
        """Raise Stale unless the alias still points to this version."""
        try:
            current = MlflowClient().get_model_version_by_alias(self.name, self.alias)
        except MlflowException as error:
            raise Stale(f"models:/{self.name}@{self.alias} is not there any more") from error
        if str(current.version) != self.version:
            raise Stale(f"models:/{self.name}@{self.alias} is version {current.version} now")
