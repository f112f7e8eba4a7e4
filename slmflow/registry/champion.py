"""The champion: the version under the alias `champion`, which new versions are compared with."""

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from slmflow.config.schema.registry import CHAMPION, Registry
from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import TIMING_COLUMNS, ModelMetrics
from slmflow.pipeline import registered_models
from slmflow.registry import version_tags
from slmflow.registry.gate import Baseline
from slmflow.registry.ranking import RANKED, describe_difference, outranks


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
        measured = candidate.measured().items()
        metrics = {name: v for name, v in measured if name not in baseline.not_comparable}
        if outranks(metrics, baseline.metrics):
            return True
        difference = describe_difference(metrics, baseline.metrics) or "all metrics are equal"
        messages.info(f"{candidate.flavor} is not better than {self.title}: {difference}")
        return False

    def warn_if_not_compared(
        self, candidate: ModelMetrics, version: str, registry: Registry
    ) -> None:
        """Warn if the config compares with the champion, but it has no metrics to compare with.

        They are on other rows, or they are timings on another machine.
        """
        drops = [name for name, limits in registry.gate.items() if limits.max_drop is not None]
        if not (registry.promote or drops) or candidate.model_uri == self.model_uri:
            return
        if self.baseline is not None:
            compared = {*drops, *RANKED} & candidate.measured().keys()
            skipped = sorted(compared & self.baseline.not_comparable)
            if skipped:
                messages.warning(
                    f"the timings of {self.title} are of another machine: {', '.join(skipped)} "
                    "was not compared with it. To time it here, run -e register with the model and "
                    "target of that version"
                )
            return
        messages.warning(
            f"{self.title} was not measured on these rows: version {version} was not compared "
            "with it, and the champion stays. To measure it, run -e register with the model, the "
            "target and the options of that version, on these rows and no fewer than it has. To "
            f"promote version {version} as it is: -e register -P registry.name={registry.name} "
            f"-P registry.stage={CHAMPION} -P registry.version={version}"
        )


def find_champion(
    name: str, comparison: Comparison, candidate: ModelMetrics, existing: ModelVersion | None
) -> Champion | None:
    """Return the champion of a registered model, or None.

    existing: the version that the candidate is already, which may be the champion.

    Metrics on other rows do not tell which model is better: a champion that was not measured on the
    rows of this comparison has no baseline. Then the gate ignores it, and it stays the champion.
    Its timings are not compared if they are of another machine.
    """
    version = registered_models.version_by_alias(name, CHAMPION)
    if version is None:
        return None
    title = f"models:/{name}/{version.version} ({CHAMPION})"
    baseline = None
    if version_tags.has_same_rows(version.tags, comparison):
        metrics = version_tags.read_metrics(version.tags, comparison)
        is_timed_here = version_tags.has_timings_of_this_machine(version.tags)
        others = frozenset() if is_timed_here else TIMING_COLUMNS
        kept = {name: value for name, value in metrics.items() if name not in others}
        baseline = Baseline(title, kept, others)
    is_candidate = existing is not None and str(existing.version) == str(version.version)
    model_uri = candidate.model_uri if is_candidate else str(version.source)
    return Champion(str(version.version), title, model_uri, baseline)
