"""Log the comparison: `comparison.json`, `.md` and `.png`, and its figures as metrics."""

import mlflow

from steps.common import markdown as md
from steps.evaluate import plot
from steps.evaluate.figures import MEANINGS
from steps.evaluate.result import Evaluation

_NOTES = """\
`-`: not measured. In brackets: 95 % confidence interval, by bootstrap over the rows; of a share
that is all or nothing, by the rule of three. `p`: how likely chance alone parts the flavors this
far, by a paired test over the rows."""


def log(evaluation: Evaluation) -> None:
    """Log the three files of the comparison, and metrics such as `genai.exact_match`."""
    evaluation.log_figures()
    mlflow.log_text(markdown(evaluation), "comparison.md")
    mlflow.log_figure(plot.draw(evaluation.figures, evaluation.title), "comparison.png")


def markdown(evaluation: Evaluation) -> str:
    """Return the comparison as a Markdown table, a line per figure and a column per flavor."""
    compared = evaluation.figures[-1]
    table = md.table(
        ["figure", *evaluation.flavors, "p", "what it is"],
        (
            [f"`{name}`", *cells, compared.p_written(name), _meaning(name)]
            for name, *cells in evaluation.table()
        ),
        words=("figure", "what it is"),
    )
    models = "\n".join(f"- {row.flavor}: `{row.model_uri}`" for row in evaluation.figures)
    parts = [f"# {evaluation.title}", table, _NOTES, evaluation.differences, models]
    return "\n\n".join(part for part in parts if part) + "\n"


def _meaning(name: str) -> str:
    return str(MEANINGS[name]["meaning"]) if name in MEANINGS else "mean of a metric of your own"
