"""The model's process: `python -m slmflow.serving.worker MODEL_URI`, the child of `model_process`.

Standard output is one JSON object a line: first {"name": "..."} when the model is loaded, or
{"refused": "why not"}; then the events of requests, each with the request's id. Standard input is a
request a line, e.g. {"id": 1, "ask": "chat", "request": {"messages": [...]}}; with its end the
process ends. Whatever libraries print goes to standard error.
"""

import dataclasses
import json
import os
import sys
from functools import partial
from typing import Any, cast

from mlflow.exceptions import MlflowException

from slmflow.errors import UserError
from slmflow.runtime.generation.answer import Answer, Event, Job, Taken
from slmflow.serving.invocations import Invocations
from slmflow.serving.loaded_model import Loaded, load
from slmflow.serving.worker_channel import Channel
from slmflow.system.child_processes import take_stdout


class Worker:
    """Passes requests to the model, and what it says to the channel."""

    def __init__(self, loaded: Loaded, channel: Channel) -> None:
        """Serve a loaded model."""
        self._loaded, self._channel = loaded, channel
        self._under_way: dict[int, Job] = {}
        self._invocations = Invocations(loaded, channel)

    def take(self, number: int, ask: str, fields: dict[str, Any]) -> None:
        """Do what a line says."""
        if ask == "cancel":
            self._cancel(number)
        elif ask == "invocations":
            self._invocations.begin(number, **fields)
        else:
            self._begin(number, ask, fields)

    def _begin(self, number: int, ask: str, fields: dict[str, Any]) -> None:
        chat, deliver = self._loaded.chat, partial(self._deliver, number)
        try:
            if ask == "chat":
                job = chat.chat(**fields, deliver=deliver)
            else:
                job = chat.completion(**fields, deliver=deliver)
        except Exception as error:
            deliver(error)
        else:
            self._under_way[number] = job
            chat.submit([job])

    def _cancel(self, number: int) -> None:
        if job := self._under_way.get(number):
            job.cancel()
        else:
            self._invocations.cancel(number)

    def _deliver(self, number: int, event: Event) -> None:
        # By name: a model brings its own copy of these classes.
        kind = type(event).__name__
        if kind == Taken.__name__:
            self._channel.send(id=number, event="taken")
        elif isinstance(event, str):
            self._channel.send(id=number, event="piece", text=event)
        elif kind == Answer.__name__:
            self._under_way.pop(number, None)
            self._channel.send(id=number, event="answer", **dataclasses.asdict(cast(Answer, event)))
        else:
            self._under_way.pop(number, None)
            self._channel.fail(number, cast(Exception, event))


def _main() -> None:
    channel = Channel(take_stdout())
    try:
        loaded = load(sys.argv[1])
    except (UserError, MlflowException) as error:
        channel.send(refused=str(error))
        return
    channel.send(name=loaded.chat.name)
    worker = Worker(loaded, channel)
    for line in sys.stdin:
        message = json.loads(line)
        worker.take(message.pop("id"), message.pop("ask"), message)
    os._exit(0)  # whatever is still generated, nobody reads


if __name__ == "__main__":
    _main()
