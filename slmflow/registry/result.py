"""What register hands on."""

from dataclasses import dataclass
from typing import ClassVar

from slmflow.config.schema.registry import CHAMPION
from slmflow.metrics.result import Evaluation
from slmflow.pipeline.results import Result, Stale, refuse_gone
from slmflow.registry import version_tags, versions


@dataclass(frozen=True)
class ModelVersion(Result):
    """A version of a registered model, under an alias.

    champion: the version under the alias `champion` when this one was made, itself if it was
    promoted, None if there was none; evaluation: the id of the run of evaluate behind its figures.
    """

    step: ClassVar = "register"
    reads: ClassVar = ("registry",)
    consumes: ClassVar = (Evaluation,)
    packages: ClassVar = ("mlflow",)

    name: str
    version: str
    alias: str
    flavor: str
    reason: str
    champion: str | None
    evaluation: str

    @property
    def summary(self) -> str:
        """What was registered and why, for people."""
        also = f" and {CHAMPION}" if self.champion == self.version else ""
        return (
            f"{self.flavor} ({self.reason}) is models:/{self.name}/{self.version}, "
            f"alias {self.alias}{also}"
        )

    def check(self) -> None:
        """Raise Stale unless the alias still points to this version, past the same champion.

        Another champion would hold it to other figures; that it became the champion itself since
        then changes nothing. It is stale too where the version has the figures of another
        evaluation by now, or its model is gone. Raises UserError where the registry cannot be used.
        """
        address = f"models:/{self.name}@"
        current = versions.aliases(self.name)
        if self.alias not in current:
            raise Stale(f"{address}{self.alias} is not there any more")
        if current[self.alias] != self.version:
            raise Stale(f"{address}{self.alias} is version {current[self.alias]} now")
        champion = current.get(CHAMPION)
        if champion not in (self.champion, self.version):
            raise Stale(
                f"{address}{CHAMPION} is {f'version {champion}' if champion else 'gone'} now"
            )
        version = versions.under(self.name, self.alias)
        if version is None or version_tags.measured_in(version.tags) != self.evaluation:
            raise Stale(f"{address}{self.alias} has the figures of another evaluation now")
        refuse_gone(f"models:/{self.name}/{self.version}")
