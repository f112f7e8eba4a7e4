"""Log the comparison: `comparison.json`, `.md` and `.png`, and its figures as metrics."""

from collections.abc import Sequence

import mlflow

from steps.common import markdown as md
from steps.evaluate import plot
from steps.evaluate.result import Evaluation

_NOTES = """\
`-`: not measured. In brackets: 95 % confidence interval, by bootstrap over the rows; of a share
that is all or nothing, by the rule of three. `p`: how likely chance alone parts the flavors this
far, by a paired test over the rows."""


def log(evaluation: Evaluation, further: Sequence[str] = ()) -> None:
    """Log the three files of the comparison, and metrics such as `genai.exact_match`.

    further: parts of `comparison.md`, in Markdown.
    """
    evaluation.log_figures()
    mlflow.log_text(markdown(evaluation, further), "comparison.md")
    mlflow.log_figure(plot.draw(evaluation.figures, evaluation.title), "comparison.png")


def markdown(evaluation: Evaluation, further: Sequence[str] = ()) -> str:
    """Return the comparison as a Markdown table, a line per figure and a column per flavor."""
    compared = evaluation.figures[-1]
    table = md.table(
        ["figure", *evaluation.flavors, "p", "what it is"],
        (
            [f"`{name}`", *cells, compared.p_written(name), md.text(compared.meaning(name))]
            for name, *cells in evaluation.table()
        ),
        words=("figure", "what it is"),
    )
    models = "\n".join(f"- {row.flavor}: `{row.model_uri}`" for row in evaluation.figures)
    parts = [f"# {evaluation.title}", table, _NOTES, evaluation.differences, *further, models]
    return "\n\n".join(part for part in parts if part) + "\n"
