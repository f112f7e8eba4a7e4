"""Coverage-guided fuzzing of a parser: `python -m fuzz.run TARGET [-max_total_time=120 ...]`.

Options after the target go to libFuzzer. A target may raise its documented error types; any other
exception stops the run and prints the input. `make fuzz` runs all targets.
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
from mlflow.exceptions import MlflowException

with atheris.instrument_imports(include=["slmflow"]):
    from slmflow.checkpoints import files, tensors
    from slmflow.config import overrides
    from slmflow.config.schema.evaluation import EvaluationData
    from slmflow.datasets.rows import parse_file
    from slmflow.errors import UserError
    from slmflow.runtime.generation.options import RequestOptions
    from slmflow.runtime.prompts.message_encoder import validate_messages
    from slmflow.runtime.prompts.template import ChatTemplate
    from slmflow.serving import openai_requests
    from slmflow.serving.errors import RequestError

SCRATCH = Path(tempfile.mkdtemp())
DEFAULTS = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0}
MESSAGES = [{"role": "user", "content": "Hi"}]


def arguments(data: bytes) -> None:
    """Command line arguments of a step, one per line."""
    overrides.for_hydra(overrides.from_arguments(data.decode(errors="surrogateescape").split("\n")))


def jsonl(data: bytes) -> None:
    """A JSONL file of rows."""
    _parse_rows(data, ".jsonl")


def csv(data: bytes) -> None:
    """A CSV file of rows."""
    _parse_rows(b"question,answer,messages,choices\n" + data, ".csv")


def index(data: bytes) -> None:
    """The index of a sharded checkpoint."""
    (SCRATCH / files.INDEX).write_bytes(data)
    tensors.read_headers(SCRATCH)


def safetensors(data: bytes) -> None:
    """The header of a weights file."""
    folder = SCRATCH / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / files.WEIGHTS).write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * 64)
    tensors.read_headers(folder)


def request(data: bytes) -> None:
    """A body of /v1/chat/completions, up to the model's options."""
    fields = openai_requests.parse_chat(data).body
    validate_messages(fields.pop("messages", None))
    RequestOptions.parse(fields, DEFAULTS)


def completion(data: bytes) -> None:
    """A body of /v1/completions."""
    fields = openai_requests.parse_completion(data).body
    del fields["prompt"]
    RequestOptions.parse(fields, DEFAULTS)


def template(data: bytes) -> None:
    """A chat template, compiled and rendered."""
    (SCRATCH / "chat_template.jinja").write_bytes(data.decode(errors="ignore").encode())
    ChatTemplate(SCRATCH).render(MESSAGES)


def _parse_rows(data: bytes, suffix: str) -> None:
    file = SCRATCH / f"rows{suffix}"
    file.write_bytes(data)
    rows, problems = parse_file(file, file.name, EvaluationData(data=str(file)))
    assert bool(rows) != bool(problems)  # noqa: S101


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (arguments, jsonl, csv, index, safetensors, request, completion, template)
}

SEEDS: dict[str, list[str]] = {
    "arguments": ["model=tiny_phi3", "--evaluation.limit\n5", "evaluation.metrics=[a:b,'c']"],
    "jsonl": [
        json.dumps({"question": "q", "answer": "a"}),
        json.dumps({"question": "q", "answer": {"text": ["a", "b"], "answer_start": [0, 1]}}),
        json.dumps({"messages": [*MESSAGES, {"role": "assistant", "content": "a"}]}),
        json.dumps({"messages": MESSAGES, "answer": "B", "choices": ["x", "y"], "subject": "s"}),
    ],
    "csv": ['q,a,,\n"x\ny",b,,\n', '"[{""role"": 1}]",,,'],
    "index": [json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})],
    "safetensors": [json.dumps({"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}})],
    "request": [json.dumps({"messages": MESSAGES, "stop": ["a"], "stream": True, "n": 1})],
    "completion": [json.dumps({"prompt": ["a"], "echo": False, "temperature": 0.5})],
    "template": ["{% for m in messages %}{{ m.content ~ 'a' | upper }}{% endfor %}"],
}


def main() -> None:
    """Fuzz the target named on the command line."""
    name = sys.argv[1]
    target = TARGETS[name]
    seeds = SCRATCH / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (seeds / str(number)).write_text(seed)

    def run_target(data: bytes) -> None:
        with contextlib.suppress(UserError, RequestError, MlflowException):
            target(data)

    options = ["-max_len=400", "-timeout=60", "-rss_limit_mb=4096", f"-artifact_prefix={SCRATCH}/"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(seeds)], run_target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
