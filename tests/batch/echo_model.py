"""A model with the signature `prompt: string -> string` that echoes prompts and logs its calls.

The folder in its config gets the logs: `loads` (process ids), `calls` (prompts per call) and
`prompts`. A prompt that begins with `crash` raises. With the environment variable WAIT_PIPE set, a
prompt that begins with `wait` writes to that named pipe and then blocks.
"""

import os
import signal
from pathlib import Path

import mlflow
from mlflow.pyfunc.model import PythonModel


class EchoModel(PythonModel):
    def load_context(self, context):
        self.folder = Path(context.model_config["folder"])
        self.log("loads", str(os.getpid()))

    def log(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as log:
            log.write(f"{line}\n")

    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        prompts = list(model_input["prompt"])
        if any(prompt.startswith("crash") for prompt in prompts):
            raise ValueError("no such prompt")
        self.log("calls", str(len(prompts)))
        for prompt in prompts:
            self.log("prompts", prompt)
            if prompt.startswith("wait") and "WAIT_PIPE" in os.environ:
                with Path(os.environ["WAIT_PIPE"]).open("w") as pipe:
                    pipe.write("waiting")
                signal.pause()
        return [f"You said {prompt}" for prompt in prompts]


mlflow.models.set_model(EchoModel())
