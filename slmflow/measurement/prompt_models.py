"""Models that take prompts: a row must then be a single message, not a conversation."""

from collections.abc import Sequence

from slmflow.checkpoints import chat_template
from slmflow.datasets import rows
from slmflow.datasets.rows import Row
from slmflow.flavors.chat_interfaces import find_interface
from slmflow.measurement import checkpoint_files
from slmflow.pipeline import model_uris
from slmflow.pipeline.step import Step


def check_rows(step: Step, evaluation_rows: Sequence[Row]) -> None:
    """Raise UserError for conversations if the model to be measured takes prompts.

    That is the one of `evaluation.model_uri`, or of the checkpoint. None is loaded.
    """
    if model_uri := step.config.evaluation.model_uri:
        key = "evaluation.model_uri"
        if find_interface(model_uris.load_metadata(key, model_uri)).takes_prompt:
            reason = f"{key}={model_uri} takes a prompt, which is one user message"
            advice = "evaluate a model that takes messages"
            rows.check_single_messages(evaluation_rows, reason, advice)
        return
    with checkpoint_files.open_folder(step) as folder:
        if not chat_template.is_missing(folder):
            return
    reason = "the model has no chat template, so it takes a prompt, which is one user message"
    advice = "give it a template with model.template=FILE"
    rows.check_single_messages(evaluation_rows, reason, advice)
