"""Loading the reference: folders that are not chat models."""

import shutil
from pathlib import Path

import pytest

from slmflow.conversion import reference_model
from slmflow.errors import UserError
from tests.conversion.architectures import BUNDLED


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": '{"model_type": "none-such"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "t5"}'}, "transformers cannot load the model"),
        ({"config.json": '{"model_type": "phi3", "hidden_size": "wide"}'}, "cannot load the model"),
        ({"tokenizer.json": "{}"}, "transformers cannot load the model"),
        ({"tokenizer_config.json": "{}"}, "has no chat template"),
        (
            {
                "config.json": '{"auto_map": {"AutoConfig": "code.Config"}, "model_type": "own"}',
                "code.py": "raise SystemExit('code of the model ran')",
            },
            "transformers cannot load the model",
        ),
    ],
)
def test_folder_without_a_chat_model_is_rejected(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(BUNDLED, folder)
    for name, content in files.items():
        (folder / name).write_text(content)

    with pytest.raises(UserError, match=message):
        reference_model.load(folder)
