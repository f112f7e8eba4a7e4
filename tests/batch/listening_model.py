"""A model under `prompt: string -> string` that says the prompt back, and notes what it does.

Its config names the folder that it notes in: who loaded it, and each prompt when it is asked.
A prompt that begins with `crash` makes it fail. Where WAITED is set, one that begins with `wait`
tells that it is asked and keeps it there.
"""

import os
import signal
from pathlib import Path

import mlflow
from mlflow.pyfunc.model import PythonModel


class Listener(PythonModel):
    def load_context(self, context):
        self.folder = Path(context.model_config["folder"])
        self.note("loads", str(os.getpid()))

    def note(self, name: str, line: str) -> None:
        with (self.folder / name).open("a") as notes:
            notes.write(f"{line}\n")

    def predict(self, context, model_input, params=None):  # MLflow would read type hints
        prompts = list(model_input["prompt"])
        if any(prompt.startswith("crash") for prompt in prompts):
            raise ValueError("no such prompt")
        self.note("frames", str(len(prompts)))
        for prompt in prompts:
            self.note("asked", prompt)
            if prompt.startswith("wait") and "WAITED" in os.environ:
                with Path(os.environ["WAITED"]).open("w") as waited:
                    waited.write("asked")
                signal.pause()
        return [f"You said {prompt}" for prompt in prompts]


mlflow.models.set_model(Listener())
