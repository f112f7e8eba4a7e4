"""Fuzz a parser of our own, guided by what it covers: `python -m fuzz.run TARGET [-runs=N ...]`.

What follows the target are options of libFuzzer, such as `-max_total_time=120`. A target may raise
what it says it raises; anything else ends the run with the input that did it. `make fuzz` runs all.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["steps"]):
    from slmflow.checkpoints import files, tensors
    from slmflow.config import overrides
    from slmflow.config.schema.evaluation import EvaluationData
    from slmflow.datasets import readers
    from slmflow.datasets.rows import parse_file
    from slmflow.errors import UserError
    from slmflow.runtime.generation.options import RequestOptions
    from slmflow.runtime.prompts.conversation import validate_messages
    from slmflow.runtime.prompts.template import ChatTemplate
    from slmflow.serving import openai_requests
    from slmflow.serving.errors import RequestError

import contextlib

from mlflow.exceptions import MlflowException

SCRATCH = Path(tempfile.mkdtemp())
DEFAULTS = {"max_tokens": 8, "temperature": 0.0, "top_p": 1.0}
TURN = [{"role": "user", "content": "Hi"}]


def arguments(data: bytes) -> None:
    """The arguments of a step, one a line, to overrides that are checked."""
    given = data.decode(errors="surrogateescape").split("\n")
    overrides.for_hydra(overrides.from_arguments(given))


def jsonl(data: bytes) -> None:
    """A file of rows, as JSONL."""
    _rows(data, ".jsonl")


def csv(data: bytes) -> None:
    """A file of rows, as CSV."""
    _rows(b"question,answer,messages,choices\n" + data, ".csv")


def index(data: bytes) -> None:
    """The index of weights in parts, as fetch and convert read it."""
    (SCRATCH / files.INDEX).write_bytes(data)
    for read in (lambda: files._check_index(SCRATCH, "m"), lambda: tensors.read_headers(SCRATCH)):
        with contextlib.suppress(UserError):
            read()


def safetensors(data: bytes) -> None:
    """The header of a file of weights."""
    file = SCRATCH / "header.safetensors"
    file.write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * 64)
    list(tensors._read_header(file))


def request(data: bytes) -> None:
    """A body of /v1/chat/completions, up to the options of the model."""
    fields = openai_requests.parse_chat(data).body
    validate_messages(fields.pop("messages", None))
    RequestOptions.parse(fields, DEFAULTS)


def completion(data: bytes) -> None:
    """A body of /v1/completions."""
    options = openai_requests.parse_completion(data).body
    del options["prompt"]
    RequestOptions.parse(options, DEFAULTS)


def template(data: bytes) -> None:
    """A chat template, compiled and rendered."""
    (SCRATCH / "chat_template.jinja").write_bytes(data.decode(errors="ignore").encode())
    ChatTemplate(SCRATCH).render(TURN)


def _rows(data: bytes, suffix: str) -> None:
    file = SCRATCH / f"rows{suffix}"
    file.write_bytes(data)
    rows, problems = parse_file(file, file.name, EvaluationData(data=str(file)))
    assert bool(rows) != bool(problems)  # noqa: S101
    list(readers.read_columns(file, EvaluationData().columns))


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (arguments, jsonl, csv, index, safetensors, request, completion, template)
}

SEEDS: dict[str, list[str]] = {
    "arguments": ["model=tiny_phi3", "--evaluation.limit\n5", "evaluation.metrics=[a:b,'c']"],
    "jsonl": [
        json.dumps({"question": "q", "answer": "a"}),
        json.dumps({"messages": TURN, "answer": "B", "choices": ["x", "y"], "subject": "s"}),
    ],
    "csv": ['q,a,,\n"x\ny",b,,\n', '"[{""role"": 1}]",,,'],
    "index": [json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})],
    "safetensors": [json.dumps({"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}})],
    "request": [json.dumps({"messages": TURN, "stop": ["a"], "stream": True, "n": 1})],
    "completion": [json.dumps({"prompt": ["a"], "echo": False, "temperature": 0.5})],
    "template": ["{% for m in messages %}{{ m.content ~ 'a' | upper }}{% endfor %}"],
}


def main() -> None:
    """Fuzz the target that the command line names."""
    name = sys.argv[1]
    target = TARGETS[name]
    seeds = SCRATCH / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(SEEDS[name]):
        (seeds / str(number)).write_text(seed)

    def once(data: bytes) -> None:
        with contextlib.suppress(UserError, RequestError, MlflowException):
            target(data)

    options = ["-max_len=400", "-timeout=60", "-rss_limit_mb=4096", f"-artifact_prefix={SCRATCH}/"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(seeds)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
