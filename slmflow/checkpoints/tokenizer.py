"""transformers' tokenizer of a checkpoint, as its tokenizer.json describes it."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

TOKENIZER = "tokenizer.json"


def load(folder: Path) -> Any:
    """Load the tokenizer of a checkpoint.

    AutoTokenizer of transformers 5 selects a class by the type of the model. Some classes, such as
    Llama's and Qwen2's, keep only the vocabulary of tokenizer.json and rebuild the rest, which can
    give other ids. A checkpoint that fetch has not completed may lack tokenizer.json: AutoTokenizer
    then makes one.
    """
    has_file = (folder / TOKENIZER).is_file()
    loader = PreTrainedTokenizerFast if has_file else AutoTokenizer
    return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
