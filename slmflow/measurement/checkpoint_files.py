"""The small files of a model's checkpoint: config, tokenizer, chat template.

They are those of the weights, if the store has them. Another user's store may have the weights: the
logged models contain copies of the small files.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.models import Model

from slmflow.checkpoints.files import CHAT_TEMPLATE, CONFIG, TOKENIZER, TOKENIZER_CONFIG
from slmflow.flavors import genai_pyfunc, transformers_pipeline
from slmflow.pipeline import model_uris
from slmflow.pipeline.results import GenaiModel, TransformersModel, Weights
from slmflow.pipeline.step import Step


@contextmanager
def open_folder(step: Step) -> Iterator[Path]:
    """Yield a folder with config.json, the tokenizer and any chat template of the model.

    The weights are ensured only if neither the store nor the logged models have the files.
    """
    if weights := step.find(Weights):
        yield weights.folder
        return
    pipeline, genai = step.find(TransformersModel), step.find(GenaiModel)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if pipeline and genai and _download(pipeline, genai, folder):
            yield folder
        else:
            yield step.ensure(Weights).folder


def _download(pipeline: TransformersModel, genai: GenaiModel, folder: Path) -> bool:
    """Copy the files from both logged models; return whether that was possible.

    The tokenizer is that of the GenAI model: the transformers flavor adapts its own.
    """
    try:
        _copy(pipeline.model_uri, transformers_pipeline.CHECKPOINT_FOLDER, {CONFIG}, folder)
        # In Windows' notation too, MLflow records `artifacts/NAME`.
        artifacts = Model.load(genai.model_uri).flavors["python_function"]["artifacts"]
        name = Path(str(artifacts["model"]["path"])).name
        names = {TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE}
        _copy(genai.model_uri, f"{genai_pyfunc.ARTIFACTS_FOLDER}/{name}", names, folder)
    except (MlflowException, OSError, KeyError, TypeError):
        return False
    return all((folder / name).is_file() for name in (CONFIG, TOKENIZER))


def _copy(model_uri: str, source: str, names: set[str], target: Path) -> None:
    repository = model_uris.artifact_repository(model_uri)
    for file in repository.list_artifacts(source):
        if Path(file.path).name in names and not file.is_dir:
            downloaded = Path(repository.download_artifacts(file.path, str(target)))
            downloaded.replace(target / downloaded.name)
