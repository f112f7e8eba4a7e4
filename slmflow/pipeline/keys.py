"""The key of a result: a sha256 over everything that shapes it."""

import dataclasses
import functools
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from slmflow.config import run_names
from slmflow.config.compose import flatten
from slmflow.config.config_keys import kinds, match_pattern
from slmflow.config.schema.adapters import AdapterMode
from slmflow.config.schema.config import Config
from slmflow.config.schema.fields import Kind
from slmflow.config.schema.pins import is_model_uri
from slmflow.paths import PROJECT, is_folder
from slmflow.pipeline import digests, model_uris, source_code
from slmflow.pipeline.results import LoggedModel, Measurements, Result, Weights
from slmflow.system import machine


def key_of(kind: type[Result], config: Config, source_root: Path = PROJECT) -> str:
    """Return the key of the result of `kind` under `config`.

    It covers the source of the step and of all modules of ours that it imports, the config that it
    reads, the keys of what it consumes, and the versions of the packages that shape it. A path
    counts by the content of its file or folder, a model URI by the model that it resolves to, a
    function by the source of its module too. Timings depend on the machine, so the key of a result
    with timings covers that, too. source_root: the folder of `steps` and `slmflow`.
    """
    return Keys(config, source_root).of(kind)


def answers_key(config: Config) -> str:
    """Return the key of the measurements without timings: it is the same on every machine."""
    untimed = dataclasses.replace(config.measurement, timed_rows=0)
    return key_of(Measurements, dataclasses.replace(config, measurement=untimed))


def scores_key(kind: type[LoggedModel], config: Config) -> str:
    """Return the key of a model without its sampling options, which change no likelihood."""
    generation = dataclasses.replace(config.generation, temperature=0.0, top_p=1.0)
    return key_of(kind, dataclasses.replace(config, generation=generation))


def base_weights_key(config: Config) -> str:
    """Return the key of the weights without an adapter: one copy of them serves all adapters."""
    base = dataclasses.replace(
        config.model,
        adapter=None,
        adapter_revision=None,
        adapter_mode=AdapterMode.merge,
        adapters={},
    )
    return key_of(Weights, dataclasses.replace(config, model=base))


class Keys:
    """The keys of results under one config; each is computed once. See `key_of`."""

    def __init__(self, config: Config, source_root: Path = PROJECT) -> None:
        """Take the config, and the folder of `steps` and `slmflow`."""
        self._values = flatten(config)
        self._source_root = source_root
        self._known: dict[type[Result], str] = {}

    def of(self, kind: type[Result]) -> str:
        """Return the key of the result of `kind`."""
        if kind not in self._known:
            self._known[kind] = self._compute(kind)
        return self._known[kind]

    def _compute(self, kind: type[Result]) -> str:
        values, parts = self._values, kind.reads_under(self._values)
        inputs = {
            "source": source_code.digest(f"steps.{kind.step}", self._source_root),
            "config": {
                name: _identity(name, value)
                for name, value in values.items()
                if run_names.is_part(name, parts)
            },
            "consumes": {other.step: self.of(other) for other in kind.consumes},
            "packages": {package: metadata.version(package) for package in kind.packages},
        }
        if kind.has_timings(values):
            inputs["machine"] = dict(machine.identity())
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _identity(name: str, value: Any) -> Any:
    """Return what identifies the value of a config key, wherever it is and whatever its name."""
    match kinds().get(match_pattern(name) or name):
        case Kind.path if value:
            return _path_digest(PROJECT / value)
        case Kind.model_uri if value:
            return model_uris.identity(name, value)
        case Kind.adapter if value:
            if is_model_uri(value):
                return model_uris.identity(name, value)
            return _path_digest(PROJECT / value) if is_folder(PROJECT / value) else value
        case Kind.functions:  # a name without a module is a built-in metric: the step imports it
            sources = {each: source_code.function_digest(each) for each in value if ":" in each}
            return {"names": value, "sources": sources}
        case Kind.tasks if value:  # their step reports a missing package
            versions = {d.version for d in metadata.distributions(name="lm_eval")}
            return {"names": value, "versions": sorted(versions)}
    return value


_path_digest = functools.cache(digests.of_path)
