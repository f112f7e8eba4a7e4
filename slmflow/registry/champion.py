"""The version under the alias `champion`, as what a new one is held against."""

from dataclasses import dataclass

from slmflow.config.schema.registry import CHAMPION, Registry
from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import registered_models
from slmflow.registry import version_tags
from slmflow.registry.gate import Baseline
from slmflow.registry.ranking import beats, first_difference


@dataclass(frozen=True)
class Champion:
    """The champion's version and what is known of it.

    model_uri: of the logged model that it is; baseline: its figures, None where they were not
    measured on the rows of this evaluation.
    """

    version: str
    address: str
    model_uri: str
    baseline: Baseline | None

    def against(self, row: ModelMetrics) -> Baseline | None:
        """Return what a flavor is held against: nothing where it is the champion itself."""
        return None if row.model_uri == self.model_uri else self.baseline

    def is_beaten_by(self, row: ModelMetrics) -> bool:
        """Return whether a flavor ranks before the champion, and say why where it does not."""
        if (baseline := self.against(row)) is None:
            return False
        ours, theirs = row.measured(), baseline.figures
        if beats(ours, theirs):
            return True
        difference = first_difference(ours, theirs) or "it has the same figures"
        messages.say(f"{row.flavor} is not better than {self.address}: {difference}")
        return False

    def warn_if_passed_over(self, row: ModelMetrics, version: str, registry: Registry) -> None:
        """Say so, and what to do, where `registry` asks to compare a version with it in vain."""
        asked = registry.promote or any(t.max_drop is not None for t in registry.gate.values())
        if not asked or self.baseline is not None or row.model_uri == self.model_uri:
            return
        messages.warn(
            f"{self.address} was not measured on these rows: version {version} was not compared "
            "with it, and it stays the champion. To measure it, run register with the options that "
            f"made it and these rows. To make version {version} the champion: python -c "
            '"from mlflow import MlflowClient; MlflowClient().set_registered_model_alias('
            f"'{registry.name}', '{CHAMPION}', '{version}')\""
        )


def current_champion(name: str, comparison: Comparison) -> Champion | None:
    """Return the champion of a registered model, None where it has none.

    Figures on other rows say nothing about which is better: where the champion has such, or none,
    the gate goes without it and it stays the champion.
    """
    version = registered_models.version_by_alias(name, CHAMPION)
    if version is None:
        return None
    address = f"models:/{name}/{version.version} ({CHAMPION})"
    baseline = None
    if version_tags.same_rows(version.tags, comparison):
        baseline = Baseline(address, version_tags.figures(version.tags, comparison))
    return Champion(str(version.version), address, str(version.source), baseline)
