"""Log the comparison: `comparison.json`, `.md` and `.png`, and its figures as metrics."""

import mlflow

from steps.common import markdown as md
from steps.evaluate import plot
from steps.evaluate.result import MEANINGS, Evaluation


def log(evaluation: Evaluation) -> None:
    """Log the three files of the comparison, and metrics such as `genai.exact_match`."""
    evaluation.log_figures()
    mlflow.log_text(markdown(evaluation), "comparison.md")
    mlflow.log_figure(plot.draw(evaluation.figures, evaluation.title), "comparison.png")


def markdown(evaluation: Evaluation) -> str:
    """Return the comparison as a Markdown table, a line per figure and a column per flavor."""
    table = md.table(
        ["figure", *evaluation.flavors, "what it is"],
        ([f"`{name}`", *cells, MEANINGS[name]["meaning"]] for name, *cells in evaluation.table()),
        words=("figure", "what it is"),
    )
    models = "\n".join(f"- {row.flavor}: `{row.model_uri}`" for row in evaluation.figures)
    return f"# {evaluation.title}\n\n{table}\n\n`-`: not measured\n\n{models}\n"
