"""Read one prompt: `python -m benchmarks.harness.read_once FOLDER TOKENS {whole,parts}`.

FOLDER is an ONNX model. The process decodes a few tokens and ends, so that its peak memory is that
of this prompt.
"""

import sys
from pathlib import Path

from benchmarks.server_load.token_prompts import TokenModel

NEW_TOKENS = 64


def main() -> None:
    """Read the prompt of the command line."""
    folder, tokens, how = sys.argv[1:]
    model = TokenModel(Path(folder))
    model.read_in_parts(how == "parts")
    model.run(model.text(int(tokens), 0), NEW_TOKENS)


if __name__ == "__main__":
    main()
