"""The version under the alias `champion`, as what a new one is held against."""

from dataclasses import dataclass

from steps.common import console
from steps.common.schema.registry import CHAMPION
from steps.evaluate.figures import FlavorFigures
from steps.evaluate.result import Evaluation
from steps.register import lineage, versions
from steps.register.choice import beats, first_difference
from steps.register.gate import Baseline


@dataclass(frozen=True)
class Champion:
    """The champion's version and what is known of it.

    baseline: its figures, None where they were not measured on the rows of this evaluation.
    """

    version: str
    address: str
    baseline: Baseline | None

    def is_beaten_by(self, row: FlavorFigures) -> bool:
        """Return whether a flavor ranks before the champion, and say why where it does not."""
        if self.baseline is None:
            return False
        ours, theirs = row.measured(), self.baseline.figures
        if beats(ours, theirs):
            return True
        difference = first_difference(ours, theirs) or "it has the same figures"
        console.say(f"{row.flavor} is not better than {self.address}: {difference}")
        return False


def current_champion(name: str, evaluation: Evaluation) -> Champion | None:
    """Return the champion of a registered model, None where it has none.

    Figures on other rows say nothing about which is better: where the champion has such, or none,
    it is warned of, the gate goes without it and it stays the champion.
    """
    version = versions.under(name, CHAMPION)
    if version is None:
        return None
    address = f"models:/{name}/{version.version} ({CHAMPION})"
    if lineage.same_rows(version.tags, evaluation):
        baseline = Baseline(address, lineage.figures(version.tags, evaluation))
        return Champion(str(version.version), address, baseline)
    console.warn(
        f"{address} was not measured on these rows: nothing is compared with it, and it stays the "
        "champion; point that alias elsewhere by hand if it should not"
    )
    return Champion(str(version.version), address, None)
