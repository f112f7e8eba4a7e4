"""How far ONNX Runtime GenAI's own tokenizer and template engine differ from what is served.

slmflow uses neither for messages and texts. A difference matters to those who load the converted
folder with ONNX Runtime GenAI alone, and where GenAI masks tokens by a JSON schema.

It runs in a child process, `python -m slmflow.conversion.proof.genai_tokenizer FOLDER` with the
probes as JSON on standard input, because it may end the process.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmflow.system import child_processes

if TYPE_CHECKING:  # its imports would slow down the child process
    from slmflow.conversion.proof.tokenization import TokenizationProbe

_TIMEOUT_SECONDS = 300


def describe_differences(folder: Path, probes: Sequence["TokenizationProbe"]) -> str | None:
    """Return a note on the differences in a converted folder, or None if there are none."""
    try:
        process = subprocess.run(
            [sys.executable, "-m", "slmflow.conversion.proof.genai_tokenizer", str(folder)],
            input=json.dumps([dataclasses.asdict(probe) for probe in probes]),
            env=child_processes.environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _note(f"takes more than {_TIMEOUT_SECONDS} seconds")
    if process.returncode:
        reason = child_processes.describe_exit(process.returncode, process.stderr)
        return _note(f"cannot read this model's ({reason[:200]})")
    differences: dict[str, int] = json.loads(process.stdout)
    texts = sum(isinstance(probe.content, str) for probe in probes)
    parts = {
        f"gives other token ids for {differences['texts']} of {texts} texts": differences["texts"],
        f"another prompt for {differences['conversations']} of {len(probes) - texts} "
        "conversations": differences["conversations"],
    }
    found = " and ".join(part for part, count in parts.items() if count)
    return _note(found) if found else None


def _note(difference: str) -> str:
    return (
        f"ONNX Runtime GenAI's own tokenizer {difference}. slmflow serves with `tokenizers` and "
        "Jinja, so this matters only where the folder is loaded without slmflow"
    )


def _main() -> None:
    import onnxruntime_genai as og

    child_processes.terminate_with_parent()
    probes: list[dict[str, Any]] = json.load(sys.stdin)
    tokenizer = og.Tokenizer(sys.argv[1])
    texts = conversations = 0
    for probe in probes:
        content, ids = probe["content"], probe["ids"]
        if isinstance(content, str):
            texts += tokenizer.encode(content).tolist() != ids
        elif ids is not None:  # transformers accepts it
            conversations += _encode_conversation(tokenizer, content) != ids
    print(json.dumps({"texts": texts, "conversations": conversations}))


def _encode_conversation(tokenizer: Any, messages: list[dict[str, str]]) -> list[int] | None:
    """Return the token ids, or None if the template engine does not support the template."""
    try:
        prompt = tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
    except Exception:  # the runtime raises nothing more specific
        return None
    ids: list[int] = tokenizer.encode(prompt).tolist()
    return ids


if __name__ == "__main__":
    _main()
