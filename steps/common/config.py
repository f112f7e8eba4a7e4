"""The typed config: what `conf/` may hold, how it is composed, and which values are refused.

`load(["model=tiny_phi3", "generation.temperature=0.2"])` composes `conf/` with Hydra, merges it
into the dataclasses below (so an unknown key or a wrong type cannot pass) and checks what types
cannot say. All problems are gathered into one message.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steps.common import overrides as command_line
from steps.common.errors import BadArguments

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"

# Paths, relative to the project: what they point to can change under the same name.
PATHS = frozenset({"model.path", "evaluation.data", "evaluation.examples"})

# Functions, `module:function`: the code of their modules can change under the same name.
FUNCTIONS = frozenset({"evaluation.metrics"})

# Keys that take a text as it is written: a comma or a brace in it means nothing to Hydra.
TEXTS = frozenset({"evaluation.system", "evaluation.template"})

# What evaluation data can be, by the suffix of its file.
FORMATS = (".jsonl", ".csv", ".parquet")

# Where a template takes the question.
QUESTION = "{question}"

# Keys that take a list, in brackets also where it has one item.
LISTS = frozenset({"target.quantization.eight_bit", "evaluation.metrics"})

# Alias of the version that others are measured against.
CHAMPION = "champion"

_FUNCTION = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*", re.ASCII | re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_RESERVED_ALIAS = re.compile(r"v\d+|latest", re.IGNORECASE)
_REGISTERED_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class Source(Enum):
    """Where the weights come from."""

    hub = "hub"
    bundled = "bundled"
    local = "local"


class Provider(Enum):
    """Execution provider of ONNX Runtime."""

    cpu = "cpu"
    cuda = "cuda"
    dml = "dml"


class Precision(Enum):
    """Floating-point type of the activations and of the weights that are not quantized."""

    fp32 = "fp32"
    fp16 = "fp16"


class Algorithm(Enum):
    """How scales and zero points are chosen.

    rtn: rounding to nearest; k_quant: a search for the least error, slower; hqq: Half-Quadratic
    Quantization, slowest, and slow to run on a CPU.
    """

    rtn = "rtn"
    k_quant = "k_quant"
    hqq = "hqq"


class ExporterName(Enum):
    """What writes the ONNX graph."""

    optimum = "optimum"
    builder = "builder"


class Interface(Enum):
    """Signature of the GenAI model: `llm/v1/chat`, or `prompt: string -> string`."""

    chat = "chat"
    prompt = "prompt"


@dataclass
class Model:
    """A hub model (`id`, `revision`) or a folder (`path`, relative to the project)."""

    name: str = MISSING
    source: Source = MISSING
    id: str | None = None
    revision: str | None = None
    path: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.source is Source.hub:
            yield from _pin_problems("model", self.id, self.revision)
        elif not self.path:
            yield f"model.path is missing: a {self.source.value} model is a folder"
        elif not self.folder.is_dir():
            yield f"model.path={self.path!r}: there is no folder {self.folder}"

    @property
    def folder(self) -> Path:
        """The absolute folder of a bundled or local model."""
        return PROJECT / (self.path or "")


def _pin_problems(key: str, hub_id: str | None, revision: str | None) -> Iterator[str]:
    """Yield what is wrong with a repository of the hub at a commit, one sentence each."""
    if not _HUB_ID.fullmatch(hub_id or ""):
        yield f"{key}.id={hub_id!r} is not a hub id: give owner/name"
    if not _COMMIT.fullmatch(revision or ""):
        yield (
            f"{key}.revision={revision!r} is not a pinned revision: give the commit's "
            "40 hexadecimal digits (the hub page's 'History' shows them), not a branch"
        )


@dataclass
class Quantization:
    """Block-wise weight quantization of the MatMul nodes (ONNX Runtime's MatMulNBits).

    accuracy_level: 4 multiplies in int8, 0 to 3 in fp32; below 4, 8 bits are slow on a CPU.
    eight_bit: modules kept at 8 bits, by their names in the checkpoint or by patterns of them, such
    as `lm_head` and `*.down_proj`. embedding: whether the token embedding is quantized too; None is
    only where it is tied to the LM head, so that the two stay one tensor.
    """

    bits: int = 4
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    algorithm: Algorithm = Algorithm.rtn
    eight_bit: list[str] = field(default_factory=list)
    embedding: bool | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.bits not in (4, 8):
            yield f"target.quantization.bits={self.bits}: must be 4 or 8"
        if self.block_size not in (16, 32, 64, 128, 256):
            yield (
                f"target.quantization.block_size={self.block_size}: must be 16, 32, 64, 128 or 256"
            )
        if self.accuracy_level not in range(5):
            yield f"target.quantization.accuracy_level={self.accuracy_level}: must be 0 to 4"
        if self.bits == 8 and self.eight_bit:
            yield (
                f"target.quantization.eight_bit={self.eight_bit}: with bits=8 every module is at 8 "
                "bits; leave it out, or set bits=4"
            )
        if self.symmetric and self.algorithm is not Algorithm.rtn:
            yield (
                f"target.quantization.symmetric=true: {self.algorithm.value} always finds zero "
                "points; set symmetric=false, or algorithm=rtn"
            )
        if self.algorithm is Algorithm.hqq:
            yield from self._hqq_problems()

    def builder_problems(self) -> Iterator[str]:
        """Yield what exporter=builder would leave out without a word, one sentence each."""
        refused = []
        if self.algorithm is not Algorithm.rtn:
            refused.append(("algorithm", self.algorithm.value, "rtn"))
        if self.eight_bit:
            refused.append(("eight_bit", str(self.eight_bit), "[]"))
        if self.embedding is not None:
            refused.append(("embedding", str(self.embedding).lower(), "null"))
        for key, value, default in refused:
            yield (
                f"target.quantization.{key}={value}: exporter=builder has no such option; set "
                f"{key}={default}, or exporter=optimum"
            )

    def _hqq_problems(self) -> Iterator[str]:
        """Yield what onnxruntime cannot do with float zero points, which only hqq has."""
        if self.bits == 8 or self.eight_bit:
            key, value = ("bits", 8) if self.bits == 8 else ("eight_bit", self.eight_bit)
            yield (
                f"target.quantization.{key}={value}: onnxruntime runs hqq at 4 bits only; "
                "set algorithm=rtn or k_quant, or keep all at 4 bits"
            )
        if self.accuracy_level != 0:
            yield (
                f"target.quantization.accuracy_level={self.accuracy_level}: onnxruntime ignores it "
                "for hqq, and on a CPU unpacks the weights anew for each token, many times slower "
                "than rtn or k_quant; set accuracy_level=0 if you want hqq nevertheless"
            )
        if self.embedding:
            yield (
                "target.quantization.embedding=true: onnxruntime has no embedding with hqq's zero "
                "points; set embedding=null or false, or algorithm=rtn or k_quant"
            )


@dataclass
class Target:
    """Execution provider, precision, quantization, and the package that serves them.

    `runtime` is a package of the version of onnxruntime-genai installed here, or `name==version`.
    """

    name: str = MISSING
    provider: Provider = MISSING
    precision: Precision = MISSING
    quantization: Quantization | None = None
    runtime: str = MISSING

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.provider is Provider.cpu and self.precision is Precision.fp16:
            yield "target.precision=fp16: the cpu provider computes in fp32"
        if self.runtime.partition("==")[0] != RUNTIMES[self.provider]:
            yield (
                f"target.runtime={self.runtime!r}: the {self.provider.value} provider is in "
                f"the package {RUNTIMES[self.provider]}"
            )
        if self.quantization is not None:
            yield from self.quantization.problems()


RUNTIMES = {
    Provider.cpu: "onnxruntime-genai",
    Provider.cuda: "onnxruntime-genai-cuda",
    Provider.dml: "onnxruntime-genai-directml",
}


@dataclass
class Exporter:
    """What writes the ONNX graph."""

    name: ExporterName = MISSING


@dataclass
class Generation:
    """How an answer is generated where the request does not say; temperature 0 is greedy."""

    max_new_tokens: int = MISSING
    temperature: float = MISSING
    top_p: float = MISSING

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.max_new_tokens < 1:
            yield f"generation.max_new_tokens={self.max_new_tokens}: must be at least 1"
        if not 0 <= self.temperature <= 2:
            yield f"generation.temperature={self.temperature}: must be between 0 and 2"
        if not 0 < self.top_p <= 1:
            yield f"generation.top_p={self.top_p}: must be above 0 and at most 1"


@dataclass
class Columns:
    """Names of the fields or columns of the evaluation data."""

    question: str = "question"
    answer: str = "answer"
    messages: str = "messages"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        names = {"question": self.question, "answer": self.answer, "messages": self.messages}
        for key, name in names.items():
            if not name.strip():
                yield f"evaluation.columns.{key} is blank: give the name of a column"
        if len(set(names.values())) < len(names):
            yield f"evaluation.columns={names}: each must be a column of its own"


@dataclass
class HubDataset:
    """A data file of a dataset of the hub, at a commit."""

    id: str | None = None
    revision: str | None = None
    file: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        yield from _pin_problems("evaluation.dataset", self.id, self.revision)
        path = PurePosixPath(self.file or "")
        if not path.name or path.is_absolute() or ".." in path.parts or "\\" in str(path):
            yield (
                f"evaluation.dataset.file={self.file!r} is not a file of the dataset: give its "
                "path as the hub page's 'Files' shows it, such as data/test.parquet"
            )
        else:
            yield from _format_problems("evaluation.dataset.file", str(path))


@dataclass
class EvaluationData:
    """The rows both flavors answer, and what is sent with each.

    The rows are in a file, `data` (relative to the project), or in a `dataset` of the hub. system:
    text of the system message; template: the user message, with `{question}` in it; examples: a
    file of further rows, sent as earlier turns of user and assistant.
    """

    data: str | None = None
    dataset: HubDataset | None = None
    columns: Columns = field(default_factory=Columns)
    system: str | None = None
    template: str | None = None
    examples: str | None = None
    limit: int | None = None
    metrics: list[str] = field(default_factory=list)  # see `user_metrics`

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.data is None and self.dataset is None:
            yield "evaluation.data is missing: give a file"
        if self.data is not None and self.dataset is not None:
            yield (
                f"evaluation.data={self.data!r} and evaluation.dataset.id={self.dataset.id!r}: "
                "give one of them"
            )
        for key, path in (("data", self.data), ("examples", self.examples)):
            if path is not None:
                yield from _data_file_problems(f"evaluation.{key}", path)
        if self.dataset is not None:
            yield from self.dataset.problems()
        yield from self.columns.problems()
        if self.system is not None and not self.system.strip():
            yield "evaluation.system is blank: give a text, or null for no system message"
        if self.template is not None and QUESTION not in self.template:
            yield (
                f"evaluation.template={self.template!r} has no {QUESTION}: write it where the "
                "question goes, or give null for the question as it is"
            )
        for name in self.metrics:
            if not _FUNCTION.fullmatch(name):
                yield (
                    f"evaluation.metrics={self.metrics}: {name!r} names no function: give "
                    "module:function, e.g. [my_package.my_module:my_function]"
                )
        if self.limit is not None and self.limit < 1:
            yield f"evaluation.limit={self.limit}: must be at least 1, or null for all rows"

    @property
    def name(self) -> str:
        """What the data is called: the file without its suffix, or the dataset's id."""
        if self.dataset is not None:
            return str(self.dataset.id)
        return Path(self.data or "").stem


def _data_file_problems(key: str, path: str) -> Iterator[str]:
    if not (PROJECT / path).is_file():
        yield f"{key}={path!r}: there is no file {PROJECT / path}"
    yield from _format_problems(key, path)


def _format_problems(key: str, path: str) -> Iterator[str]:
    if Path(path).suffix.lower() not in FORMATS:
        yield f"{key}={path!r}: must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


@dataclass
class Threshold:
    """What a figure of the comparison must be, in its own unit; None asks nothing.

    min, max: of the flavor that is registered. max_drop: how much worse than the reference flavor,
    and than the champion, it may be.
    """

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None

    def problems(self, key: str) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        limits = {"min": self.min, "max": self.max, "max_drop": self.max_drop}
        for name, value in limits.items():
            if value is not None and not math.isfinite(value):
                yield f"{key}.{name}={value}: must be a finite number, or null for no threshold"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield f"{key}.min={self.min}: is above {key}.max={self.max}, so no figure can pass"
        if self.max_drop is not None and self.max_drop < 0:
            yield f"{key}.max_drop={self.max_drop}: must be 0 or more"


@dataclass
class Registry:
    """Where the better flavor is registered, and what its figures must be for that.

    alias: of each new version; promote: whether one that is better than the champion becomes the
    champion; gate: thresholds by column of the comparison, whose names `register` checks.
    """

    name: str = MISSING
    alias: str = MISSING
    promote: bool = False
    gate: dict[str, Threshold] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        for key, value in (("name", self.name), ("alias", self.alias)):
            if not _REGISTERED_NAME.fullmatch(value):
                yield (
                    f"registry.{key}={value!r}: use letters, digits, '.', '_' and '-', "
                    "with a letter or digit first"
                )
        if _RESERVED_ALIAS.fullmatch(self.alias):
            yield f"registry.alias={self.alias!r}: MLflow reserves v1, v2, ... and latest"
        if self.alias == CHAMPION:
            yield (
                f"registry.alias={self.alias}: that alias is for versions that are better than the "
                "one before; choose another, such as candidate, and set registry.promote=true"
            )
        for metric, threshold in self.gate.items():
            yield from threshold.problems(f"registry.gate.{metric}")


@dataclass
class LogGenai:
    """How the GenAI model is logged."""

    interface: Interface = Interface.chat


class Tracing(Enum):
    """What the server notes of each request in MLflow: usage is tokens and times, content all."""

    off = "off"
    usage = "usage"
    content = "content"


@dataclass
class Serve:
    """How a logged model is served.

    model_uri: a model's address, `registered` for the version with the alias of `registry`; host:
    loopback unless you say otherwise; port: 0 is any that is free; most_waiting: requests in
    the queue before further ones are turned away; most_body_kb: in thousands of bytes.
    """

    model_uri: str = MISSING
    host: str = "127.0.0.1"
    port: int = 8000
    most_waiting: int = 64
    most_body_kb: int = 1000
    tracing: Tracing = Tracing.off

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if not self.model_uri:
            yield "serve.model_uri is empty: give models:/NAME@ALIAS, or registered"
        if not 0 <= self.port <= 65535:
            yield f"serve.port={self.port}: must be 0 (any that is free) to 65535"
        for key, value in (
            ("most_waiting", self.most_waiting),
            ("most_body_kb", self.most_body_kb),
        ):
            if value < 1:
                yield f"serve.{key}={value}: must be at least 1"


@dataclass
class Config:
    """Everything a run is made of; each Hydra group of `conf/` fills the field of its name."""

    model: Model = field(default_factory=Model)
    target: Target = field(default_factory=Target)
    exporter: Exporter = field(default_factory=Exporter)
    generation: Generation = field(default_factory=Generation)
    evaluation: EvaluationData = field(default_factory=EvaluationData)
    registry: Registry = field(default_factory=Registry)
    log_genai: LogGenai = field(default_factory=LogGenai)
    serve: Serve = field(default_factory=Serve)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        checked = (self.model, self.target, self.generation, self.evaluation, self.registry)
        for section in (*checked, self.serve):
            yield from section.problems()
        if self.exporter.name is ExporterName.builder and self.target.quantization is not None:
            yield from self.target.quantization.builder_problems()


def _slug(text: str | None) -> str:
    """Return the last part of a hub id or path in characters a registered name may have."""
    return re.sub(r"[^\w.-]+", "-", Path(text or "unnamed").name, flags=re.ASCII)


OmegaConf.register_new_resolver("slug", _slug, replace=True)
ConfigStore.instance().store(name="schema", node=Config)


def load(overrides: Sequence[str]) -> Config:
    """Compose `conf/` with Hydra overrides such as `target=cpu_int8` into a checked `Config`.

    Raises BadArguments, with every problem in one message, for a key, choice or value that is
    unknown or cannot be used.
    """
    keys = list(_keys(Config))
    command_line.check(overrides, groups(), keys, LISTS)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            _refuse_below_null(overrides)
            changed, named = command_line.split(overrides, keys)
            composed = _with_named(compose("config", changed), named)
        config = cast(Config, OmegaConf.to_object(composed))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadArguments(_reason(error)) from error
    if problems := list(config.problems()):
        raise BadArguments("\n".join(problems))
    return config


def _with_named(composed: DictConfig, named: Mapping[str, Any]) -> DictConfig:
    """Return the config with entries of dicts that may hold any name; their types are checked."""
    entries = OmegaConf.create()
    for key, value in named.items():
        OmegaConf.update(entries, key, value)
    OmegaConf.set_struct(composed, False)
    return cast(DictConfig, OmegaConf.merge(composed, entries))


def _refuse_below_null(overrides: Sequence[str]) -> None:
    """Raise BadArguments where a key is set of what the chosen files leave out."""
    given = [override.split("=", 1) for override in overrides]
    choices = [f"{key}={choice}" for key, choice in given if key in groups()]
    chosen = compose("config", choices, return_hydra_config=True)
    problems = []
    for key, value in given:
        section = key if value.startswith("{") else key.rpartition(".")[0]
        if section and OmegaConf.select(chosen, section, default={}) is None:
            group = section.partition(".")[0]
            choice = chosen.hydra.runtime.choices[group]
            problems.append(
                f"{key}={value}: {group}={choice} has no {section}; choose "
                f"another {group}, or leave {key} out"
            )
    if problems:
        raise BadArguments("\n".join(problems))


def groups() -> dict[str, list[str]]:
    """Return the Hydra groups of `conf/`, each with its choices."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    return {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in folders}


def plain(config: Config) -> dict[str, Any]:
    """Return the config as nested dicts of strings, numbers, lists and None."""
    nested = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    return cast(dict[str, Any], nested)


def leaves(config: Config) -> dict[str, Any]:
    """Return every value under its Hydra name: `{"generation.temperature": 0.2, ...}`."""
    return dict(_flatten("", plain(config)))


def _keys(section: type, prefix: str = "") -> Iterator[str]:
    """Yield the names of everything below a dataclass that may be set.

    Where a dict may hold any name, `overrides.ANY_NAME` stands for it.
    """
    for name, kind in get_type_hints(section).items():
        nested = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
        named = get_origin(kind) is dict
        if nested is not kind and not named:
            yield prefix + name
        if nested is not None:
            below = f"{name}.{command_line.ANY_NAME}" if named else name
            yield from _keys(cast(type, nested), f"{prefix}{below}.")


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield prefix, value
        return
    for key, child in value.items():
        yield from _flatten(f"{prefix}.{key}" if prefix else key, child)


def _reason(error: Exception) -> str:
    """Return the innermost message of a Hydra or OmegaConf error, with the key it is about."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    text = str(getattr(cause, "msg", None) or cause).splitlines()[0]
    return f"{key}: {text}" if key and key not in text else text
