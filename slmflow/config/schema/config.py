"""The whole config; each Hydra group of `conf/` fills the section of its name."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from slmflow.config.schema.adapters import AdapterMode
from slmflow.config.schema.batch import Batch, Spark
from slmflow.config.schema.calibration import Calibration
from slmflow.config.schema.drift import Drift
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.config.schema.fields import Kind, config_key
from slmflow.config.schema.generation import Generation, LogGenai
from slmflow.config.schema.measurement import Measurement
from slmflow.config.schema.model import Model
from slmflow.config.schema.registry import Registry
from slmflow.config.schema.serving import Serve
from slmflow.config.schema.store import Store
from slmflow.config.schema.sweep import Sweep
from slmflow.config.schema.target import Exporter, ExporterName, Precision, Provider, Target
from slmflow.config.schema.verification import Verify

STEPS = ("fetch", "convert", "log_transformers", "log_genai", "measure", "evaluate", "register")
"""The steps whose results are reused, in the order of the data flow."""

ALL_STEPS = "all"


@dataclass
class Config:
    """The config of a run."""

    model: Model = field(default_factory=Model)
    target: Target = field(default_factory=Target)
    exporter: Exporter = field(default_factory=Exporter)
    calibration: Calibration = field(default_factory=Calibration)
    generation: Generation = field(default_factory=Generation)
    evaluation: EvaluationData = field(default_factory=EvaluationData)
    measurement: Measurement = field(default_factory=Measurement)
    registry: Registry = field(default_factory=Registry)
    log_genai: LogGenai = field(default_factory=LogGenai)
    serve: Serve = field(default_factory=Serve)
    drift: Drift = field(default_factory=Drift)
    verify: Verify = field(default_factory=Verify)
    sweep: Sweep = field(default_factory=Sweep)
    batch: Batch = field(default_factory=Batch)
    spark: Spark = field(default_factory=Spark)
    store: Store = field(default_factory=Store)
    fresh: list[str] = config_key(
        Kind.list, "steps to run anew, with all that follows from them; [all] reuses nothing", list
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value or combination."""
        converted = (self.model, self.target, self.calibration)
        measured = (self.generation, self.evaluation, self.measurement)
        applied = (self.registry, self.serve, self.verify, self.sweep, self.batch, self.spark)
        for section in (*converted, *measured, *applied, self.store, self.drift):
            yield from section.problems()
        for unknown in sorted(set(self.fresh) - {*STEPS, ALL_STEPS}):
            yield (
                f"fresh: {unknown!r} is not a step whose result is reused: give some of "
                f"{', '.join(STEPS)}, or {ALL_STEPS}"
            )
        if self.exporter.name is ExporterName.builder and self.target.quantization is not None:
            yield from self.target.quantization.builder_problems()
        yield from self._adapter_problems()

    def _adapter_problems(self) -> Iterator[str]:
        """Yield one message for each choice with which no adapter can be converted."""
        sources, target = self.model.adapter_sources, self.target
        if not sources:
            return
        name = next(iter(sources.values())).name
        if self.exporter.name is ExporterName.builder:
            yield (
                f"{name}: exporter=builder reads the weights itself, so that no adapter can be "
                "merged into them: choose exporter=optimum, or merge the adapter with peft and "
                "convert the whole model"
            )
        is_separate = self.model.adapter_mode is AdapterMode.separate
        if is_separate and (target.provider, target.precision) != (Provider.cpu, Precision.fp32):
            yield (
                f"{name}: model.adapter_mode=separate is supported on CPUs in fp32 only, also with "
                f"quantized weights, and target={target.name} runs on {target.provider.value} in "
                f"{target.precision.value}: choose a target such as cpu_int4, or adapter_mode=merge"
            )
