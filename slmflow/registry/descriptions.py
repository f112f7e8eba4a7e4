"""The descriptions of a registered model and of its versions, which the UI shows.

The list of versions shows the first words as they are, so these contain no Markdown.
"""

import re

from mlflow import MlflowClient

from slmflow.config.schema.config import Config
from slmflow.config.schema.registry import CHAMPION
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline.registered_models import alias_of_target, registry_errors
from slmflow.reports import markdown as md
from slmflow.reports import tables

# Names, numbers and units: what Markdown shows as it is. An underscore inside a word is no markup.
_PLAIN = re.compile(r"[\w .,:;()%/+@-]*")
_HEADING = re.compile(r"\A# [^\n]*\n+")


def of_version(comparison: Comparison, candidate: ModelMetrics, report: str) -> str:
    """Return the description of a version: the model and its headlines, then the report.

    report: the comparison as Markdown, whose heading is left out.
    """
    precision = f" in {candidate.precision}" if candidate.precision else ""
    index = comparison.models.index(candidate)
    measured = ", ".join(
        f"{row.cells[index].value} {title}" for title, row in tables.headlines(comparison).items()
    )
    line = f"{comparison.title}, {candidate.flavor}{precision}: {measured}"
    first = line if _PLAIN.fullmatch(line) else md.text(line)
    return f"{first}\n\n{_HEADING.sub('', report)}"


def of_model(config: Config) -> str:
    """Return the description of a registered model."""
    registry, model = config.registry, config.model
    of_target = alias_of_target(registry.alias, config.target.name)
    address = f"models:/{registry.name}@{registry.alias}"
    source = model.uri or (f"{model.id}@{model.revision}" if model.id else model.name)
    return "\n".join(
        [
            f"Versions of {md.text(model.name)} that slmflow converted, compared with the original "
            "and let pass its gate.",
            "",
            f"- Source: {md.code(source)}" + f", licence {model.licence}" * bool(model.licence),
            f"- Alias {md.code(of_target)}, for each target: the newest version for it",
            f"- Alias {md.code(registry.alias)}: that for the target which was registered first",
            f"- Alias {md.code(CHAMPION)}: the version in use",
            f"- Load it with {md.code(f'mlflow.pyfunc.load_model({address!r})')}",
        ]
    )


def describe_model(config: Config) -> None:
    """Describe the registered model unless it has a description, such as one that a user wrote.

    Raises UserError if the registry cannot be used.
    """
    name, client = config.registry.name, MlflowClient()
    with registry_errors():
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, of_model(config))
