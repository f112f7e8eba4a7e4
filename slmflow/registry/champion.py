"""The champion: the version under the alias `champion`, which new versions are compared with."""

from dataclasses import dataclass

from slmflow.config.schema.registry import CHAMPION, Registry
from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import registered_models
from slmflow.registry import version_tags
from slmflow.registry.gate import Baseline
from slmflow.registry.ranking import describe_difference, outranks


@dataclass(frozen=True)
class Champion:
    """The champion of a registered model.

    title: its URI and alias, for messages; model_uri: its logged model; baseline: its metrics, None
    if they were not measured on the rows of this comparison.
    """

    version: str
    title: str
    model_uri: str
    baseline: Baseline | None

    def baseline_for(self, candidate: ModelMetrics) -> Baseline | None:
        """Return the baseline, or None if the candidate is the champion itself."""
        return None if candidate.model_uri == self.model_uri else self.baseline

    def is_outranked_by(self, candidate: ModelMetrics) -> bool:
        """Return whether a candidate ranks above the champion; print why it does not."""
        if (baseline := self.baseline_for(candidate)) is None:
            return False
        metrics = candidate.measured()
        if outranks(metrics, baseline.metrics):
            return True
        difference = describe_difference(metrics, baseline.metrics) or "all metrics are equal"
        messages.info(f"{candidate.flavor} is not better than {self.title}: {difference}")
        return False

    def warn_if_not_compared(
        self, candidate: ModelMetrics, version: str, registry: Registry
    ) -> None:
        """Warn if the config compares with the champion, but it has no metrics on these rows."""
        compares = registry.promote or any(t.max_drop is not None for t in registry.gate.values())
        if not compares or self.baseline is not None or candidate.model_uri == self.model_uri:
            return
        messages.warning(
            f"{self.title} was not measured on these rows: version {version} was not compared "
            "with it, and the champion stays. To measure it, run -e register with the model "
            "and target of that version and these rows. To make version "
            f"{version} the champion: python -c "
            '"from mlflow import MlflowClient; MlflowClient().set_registered_model_alias('
            f"'{registry.name}', '{CHAMPION}', '{version}')\""
        )


def find_champion(name: str, comparison: Comparison) -> Champion | None:
    """Return the champion of a registered model, or None.

    Metrics on other rows do not tell which model is better: a champion that was not measured on the
    rows of this comparison has no baseline. Then the gate ignores it, and it stays the champion.
    """
    version = registered_models.version_by_alias(name, CHAMPION)
    if version is None:
        return None
    title = f"models:/{name}/{version.version} ({CHAMPION})"
    baseline = None
    if version_tags.has_same_rows(version.tags, comparison):
        baseline = Baseline(title, version_tags.read_metrics(version.tags, comparison))
    return Champion(str(version.version), title, str(version.source), baseline)
