"""The whole config; each Hydra group of `conf/` fills the section of its name."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from slmflow.config.schema.batch import Batch, Spark
from slmflow.config.schema.calibration import Calibration
from slmflow.config.schema.evaluation import EvaluationData
from slmflow.config.schema.generation import Generation, LogGenai
from slmflow.config.schema.measurement import Measurement
from slmflow.config.schema.model import Model
from slmflow.config.schema.registry import Registry
from slmflow.config.schema.serving import Serve
from slmflow.config.schema.store import Store
from slmflow.config.schema.sweep import Sweep
from slmflow.config.schema.target import Exporter, ExporterName, Target
from slmflow.config.schema.verification import Verify


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
    verify: Verify = field(default_factory=Verify)
    sweep: Sweep = field(default_factory=Sweep)
    batch: Batch = field(default_factory=Batch)
    spark: Spark = field(default_factory=Spark)
    store: Store = field(default_factory=Store)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value or combination."""
        converted = (self.model, self.target, self.calibration)
        measured = (self.generation, self.evaluation, self.measurement)
        applied = (self.registry, self.serve, self.verify, self.sweep, self.batch, self.spark)
        for section in (*converted, *measured, *applied, self.store):
            yield from section.problems()
        if self.exporter.name is ExporterName.builder and self.target.quantization is not None:
            yield from self.target.quantization.builder_problems()
        if self.exporter.name is ExporterName.builder and self.model.adapter is not None:
            yield (
                f"model.adapter={self.model.adapter!r}: exporter=builder reads the weights itself, "
                "so no adapter can be merged into them: choose exporter=optimum, or merge the "
                "adapter with peft and convert the whole model"
            )
