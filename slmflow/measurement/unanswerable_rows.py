"""Find the rows that a model cannot answer, before it is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from slmflow.checkpoints.files import CONFIG, read_json_object
from slmflow.checkpoints.vocabulary import Vocabulary
from slmflow.console import messages
from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement import checkpoint_files
from slmflow.pipeline.step import Step
from slmflow.runtime.chat_model import reject_long
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder
from slmflow.runtime.prompts.vocabulary import reject_unknown_tokens

_MAX_LISTED = 10


def find(step: Step, rows: Sequence[Row]) -> dict[int, str]:
    """Return why rows cannot be answered, by their number, and name them in a warning.

    A row cannot be answered if its prompt is as long as the context or longer, has a token that the
    model does not know, or is rejected by the chat template. Both flavors leave it out, and it
    counts as not answered. Raises UserError if no row can be answered. Nothing is known about
    `evaluation.model_uri`, which rejects such rows itself.
    """
    if step.config.evaluation.model_uri or not rows:
        return {}
    with checkpoint_files.open_folder(step) as folder:
        problems = _find(folder, rows, step.config.generation.template)
    if problems and not step.is_nested:
        _warn(problems, rows)
    if len(problems) == len(rows):
        raise UserError(f"no row can be answered: {_describe(*next(iter(problems.items())), rows)}")
    return problems


def _find(folder: Path, rows: Sequence[Row], variables: dict[str, Any]) -> dict[int, str]:
    prompts = TemplatePromptEncoder(folder)
    context, size = _context_length(folder), Vocabulary.read(folder, str(folder)).size
    problems = {}
    for number, row in enumerate(rows):
        try:
            prompt = (
                prompts.encode_chat(row.messages, variables)
                if prompts.takes_messages
                else prompts.encode_document(row.question)
            )
            if size is not None:
                reject_unknown_tokens(prompt, size, prompts.tokenizer)
            if context is not None:
                reject_long(prompt, context)
        except MlflowException as error:
            problems[number] = str(error.message)
    return problems


def _context_length(folder: Path) -> int | None:
    config = read_json_object(folder / CONFIG, str(folder))
    nested = config.get("text_config")
    for each in (config, nested if isinstance(nested, dict) else {}):
        if isinstance(length := each.get("max_position_embeddings"), int):
            return length
    return None


def _warn(problems: dict[int, str], rows: Sequence[Row]) -> None:
    listed = [_describe(number, problem, rows) for number, problem in problems.items()]
    more = len(listed) - _MAX_LISTED
    listed = [*listed[:_MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]
    messages.warning(
        f"{len(problems)} of {len(rows)} rows cannot be answered and count as not answered: "
        + "; ".join(listed)
    )


def _describe(number: int, problem: str, rows: Sequence[Row]) -> str:
    return f"{rows[number].location or f'row {number + 1}'}: {problem}"
