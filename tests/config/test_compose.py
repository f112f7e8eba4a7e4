"""The typed config, composed from `conf/`."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from slmflow.config import compose as configs
from slmflow.config import config_keys
from slmflow.config import overrides as command_line
from slmflow.config.compose import load
from slmflow.config.schema.config import Config
from slmflow.config.schema.registry import Threshold
from slmflow.config.schema.target import RUNTIMES, Algorithm, Precision, Provider, Quantization
from slmflow.errors import BadArguments
from slmflow.paths import CONF, PROJECT

CHOICES = [(group, choice) for group, choices in config_keys.groups().items() for choice in choices]
HUB_MODEL = ["model.id=owner/name", f"model.revision={'0' * 40}"]
HUB_DATASET = [
    "evaluation=hub",
    "evaluation.dataset.id=owner/name",
    f"evaluation.dataset.revision={'0' * 40}",
    "evaluation.dataset.file=data/test.parquet",
]
REQUIRED = {
    ("model", "hub"): HUB_MODEL,
    ("model", "local"): [f"model.path={CONF}"],
    ("model", "mlflow"): ["model.uri=models:/my-finetuned/3"],
    ("evaluation", "hub"): HUB_DATASET[1:],
    ("evaluation", "lm_eval"): ["evaluation.tasks=[arc_easy]"],
}
OWN_ENVIRONMENT = [("evaluation", "lm_eval")]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_conf_file_composes_and_begins_with_its_command(group: str, choice: str) -> None:
    config = load([f"{group}={choice}", *REQUIRED.get((group, choice), [])])
    lines = (CONF / group / f"{choice}.yaml").read_text().splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))

    assert isinstance(config, Config)
    assert first.startswith("# mlflow run . ")
    manager = "local" if (group, choice) in OWN_ENVIRONMENT else "uv"
    assert f"--env-manager {manager}" in first


def test_defaults_are_the_bundled_model_at_cpu_int4() -> None:
    config = load([])

    assert config.model.name == "tiny_phi3"
    assert config.target.name == "cpu_int4"
    quantization = config.target.quantization
    assert quantization is not None
    assert (quantization.bits, quantization.block_size) == (4, 128)
    assert (quantization.algorithm, quantization.average_bits) == (Algorithm.gptq, 4.5)
    rounded = load(["target=cpu_int4_rtn"]).target.quantization
    assert rounded == Quantization(4, 32, True, 4, Algorithm.rtn)
    assert config.generation.temperature == 0


def test_targets_have_provider_precision_and_runtime() -> None:
    targets = {
        choice: load([f"target={choice}"]).target for choice in config_keys.groups()["target"]
    }

    assert {name: target.name for name, target in targets.items()} == {n: n for n in targets}
    assert targets["cuda_fp16"].precision is Precision.fp16
    assert targets["dml_int4"].provider is Provider.dml
    assert all(target.runtime.startswith(RUNTIMES[target.provider]) for target in targets.values())


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("[lm_head]", ["lm_head"]),
        ("[lm_head,*.down_proj]", ["lm_head", "*.down_proj"]),
        ("['model.layers.[0-3].*']", ["model.layers.[0-3].*"]),
        ("[]", []),
    ],
)
def test_lists_are_parsed(text: str, patterns: list[str]) -> None:
    """In Hydra's form, and in the two arguments that MLflow makes of a -P."""
    key = "target.quantization.eight_bit"

    for arguments in ([f"{key}={text}"], [f"--{key}", text]):
        config = load(command_line.from_arguments(arguments))
        assert config.target.quantization is not None
        assert config.target.quantization.eight_bit == patterns
        assert configs.flatten(config)[key] == patterns


@pytest.mark.parametrize("name", ["a,b", "[a]", "{a: b}", "2024_06", "1e3", "true", "0x10"])
def test_paths_and_texts_are_taken_literally(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    arguments = ["model=local", "--model.path", f"{tmp_path}/{name}", "--registry.alias", name]
    config = configs.compose(command_line.from_arguments([*arguments, f"model.licence={name}"]))

    assert config.model.path == f"{tmp_path}/{name}"
    assert config.model.folder.is_dir()
    assert config.model.licence == config.registry.alias == name


def test_thresholds_merge_conf_and_command_line() -> None:
    """As Hydra takes them, and in the two arguments that MLflow makes of a -P."""
    thresholds = {
        "exact_match.min": "0.9",
        "latency_ms_p95.max": "200",
        "token_f1.max_drop": "null",
    }

    for form in ("registry.gate.{}={}", "--registry.gate.{} {}"):
        arguments = [part for each in thresholds.items() for part in form.format(*each).split()]
        gate = load(command_line.from_arguments(arguments)).registry.gate
        assert gate == {
            "exact_match": Threshold(min=0.9, max_drop=0.05),
            "latency_ms_p95": Threshold(max=200.0),
            "token_f1": Threshold(),
        }


def _changes(chosen: Mapping[str, object]) -> list[str]:
    """Return overrides that change the quantization of the target without calibration."""
    options = (f"target.quantization.{key}={value}" for key, value in chosen.items())
    return ["target=cpu_int4_rtn", *options]


def test_quantization_keys_can_be_set_one_by_one() -> None:
    chosen = {"algorithm": "k_quant", "symmetric": False, "block_size": 64, "embedding": True}
    values = configs.flatten(load(_changes(chosen)))

    assert {key: values[f"target.quantization.{key}"] for key in chosen} == chosen


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"algorithm": "awq"}, r"algorithm: .*expected one of \[rtn, k_quant, hqq, gptq\]"),
        ({"algorithm": "k_quant"}, "symmetric=true: k_quant .* set symmetric=false"),
        ({"algorithm": "hqq"}, "symmetric=true: hqq"),
        ({"algorithm": "hqq", "bits": 8}, "bits=8: .* hqq at 4 bits only"),
        ({"algorithm": "hqq", "eight_bit": "[lm_head]"}, r"eight_bit=\['lm_head'\]: .* hqq"),
        ({"algorithm": "hqq", "symmetric": "false"}, "accuracy_level=4: .* set accuracy_level=0"),
        ({"algorithm": "hqq", "embedding": "true"}, "embedding=true: .* set embedding=null"),
        ({"bits": 8, "eight_bit": "[lm_head]"}, r"eight_bit=\['lm_head'\]: with bits=8"),
        (
            {"eight_bit": "lm_head"},
            r"eight_bit=lm_head: must be a list, give .*eight_bit=\[lm_head\]",
        ),
        ({"eight_bit": "null"}, r"eight_bit=null: must be a list, give .*eight_bit=\[\]"),
    ],
)
def test_quantization_unsupported_by_onnxruntime_is_rejected(
    chosen: dict[str, object], message: str
) -> None:
    with pytest.raises(BadArguments, match=message):
        load(_changes(chosen))


GPTQ = {"algorithm": "gptq"}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"bits_per_weight": 5}, "bits_per_weight=5.0: rtn cannot tell .* set algorithm=gptq"),
        ({"budget_mb": 90}, "budget_mb=90.0: rtn cannot tell .* set algorithm=gptq"),
        (GPTQ | {"bits": 8, "budget_mb": 90}, "budget_mb=90.0: with bits=8 every module"),
        (GPTQ | {"bits": 8, "bits_per_weight": 6}, "bits_per_weight=6.0: with bits=8 every module"),
        *(
            (GPTQ | {"bits_per_weight": bits}, f"bits_per_weight={bits}: must be above 4")
            for bits in ("4.0", "9.01", "-5.0", "nan", "inf", "-inf")
        ),
        *(
            (GPTQ | {"budget_mb": size}, f"budget_mb={size}: must be a finite number above 0")
            for size in ("0.0", "-1.0", "nan", "inf", "-inf")
        ),
        (GPTQ | {"budget_mb": "100MB"}, "budget_mb=100MB: must be a number"),
        (GPTQ | {"bits_per_weight": "[5]"}, r"bits_per_weight=\[5\]: must be a number"),
    ],
)
def test_contradictory_size_is_rejected_in_one_line(
    chosen: dict[str, object], message: str
) -> None:
    with pytest.raises(BadArguments, match=message) as error:
        load(_changes(chosen))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "chosen",
    [
        {"bits": 8},
        {"symmetric": False, "block_size": 128},
        {"embedding": True, "bits_per_weight": 4.25},
        {"embedding": False, "bits_per_weight": 9.0},
        {"eight_bit": ["lm_head"], "budget_mb": 104.5},
        {"bits_per_weight": 4.5, "budget_mb": 104.5},
    ],
)
def test_gptq_takes_the_options_of_the_graph(chosen: dict[str, object]) -> None:
    chosen = GPTQ | chosen
    values = configs.flatten(load(_changes(chosen)))

    assert {key: values[f"target.quantization.{key}"] for key in chosen} == chosen


def test_calibration_text_is_a_file_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("A text.")

    folder = load([f"calibration.data={tmp_path}"]).calibration
    file = load([f"calibration.data={tmp_path / 'own.txt'}"]).calibration

    assert (folder.data_path, file.data_path) == (tmp_path, tmp_path / "own.txt")
    assert folder.held_out_path == PROJECT / "bundled" / "held_out"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (GPTQ, "algorithm=gptq: .* algorithm=rtn"),
        ({"algorithm": "k_quant", "symmetric": "false"}, "algorithm=k_quant: .* algorithm=rtn"),
        ({"eight_bit": "[lm_head]"}, r"eight_bit=\['lm_head'\]: .* set eight_bit=\[\]"),
        ({"embedding": "true"}, "embedding=true: .* set embedding=null"),
        ({"embedding": "false"}, "embedding=false: .* or exporter=optimum"),
    ],
)
def test_quantization_ignored_by_the_builder_is_rejected(
    chosen: dict[str, str], message: str
) -> None:
    overrides = _changes(chosen)

    load(overrides)
    with pytest.raises(BadArguments, match=message):
        load(["exporter=builder", *overrides])


@pytest.mark.parametrize("target", ["cpu_fp32", "cpu_int4_rtn", "cpu_int8"])
def test_builder_accepts_the_targets(target: str) -> None:
    load(["exporter=builder", f"target={target}"])


@pytest.mark.parametrize(
    "override", ["target.quantization.bits=8", "target.quantization={bits: 8}"]
)
def test_keys_of_a_null_section_are_rejected(override: str) -> None:
    with pytest.raises(BadArguments, match=r"target=cpu_fp32 has no target\.quantization; choose"):
        load(["target=cpu_fp32", override])


def test_registered_name_comes_from_id_or_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my model (2)"
    folder.mkdir()

    named = load(["model=local", f"model.path='{folder}'"])
    hub = load(["model=hub", *HUB_MODEL])

    assert named.registry.name == "slmflow-my-model-2-"
    assert hub.registry.name == "slmflow-name"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["target=cpu_int3"],
            "Did you mean cpu_int[48]?.*cpu_balanced, cpu_fp32, cpu_int4, cpu_int4_rtn",
        ),
        (["generation.temprature=1"], "Did you mean generation.temperature?"),
        (
            ["modle=tiny_phi3"],
            "Did you mean model?.*one of batch, calibration, drift, evaluation, exporter, fresh",
        ),
        (["inputs=rows.csv"], "Did you mean batch.input?"),
        (["generation.temperature=warm"], "generation.temperature=warm: must be a number"),
        (["generation.temperature=3"], "generation.temperature=3.0: must be between 0 and 2"),
        (["generation.top_p=0"], "generation.top_p=0.0: must be above 0"),
        (["generation.max_new_tokens=0"], "max_new_tokens=0: must be at least 1"),
        (["target=cpu_int4,cpu_int8"], "only a sweep takes several values"),
        (["target.provider=tpu"], r"target.provider: .*expected one of \[cpu, cuda, dml\]"),
        (["target.precision=fp16"], "the cpu provider computes in fp32"),
        (["target.runtime=onnxruntime-genai-cuda"], "the cpu provider is in"),
        (["target.quantization.bits=5"], "bits=5: must be 4 or 8"),
        (["target.quantization.block_size=48"], "block_size=48"),
        (["target.quantization.accuracy_level=9"], "accuracy_level=9"),
        (["calibration.data=none"], "calibration.data='none': there is no file or folder /.*none"),
        (["calibration.data=/dev/zero"], "there is no file or folder /dev/zero"),
        (["calibration.data="], "calibration.data='': there is no file or folder"),
        (["calibration.data=null"], "calibration.data"),
        ([f"calibration.held_out={'a' * 300}"], "calibration.held_out='a*': there is no file"),
        (["calibration.held_out=bundled/../bundled/calibration"], "fitted to: give other text"),
        (["calibration.tokens=511"], "calibration.tokens=511: must be 512 to 262144"),
        (["calibration.tokens=262145"], "calibration.tokens=262145: must be 512 to 262144"),
        (["calibration.tokens=4k"], "calibration.tokens=4k: must be a whole number"),
        (["model=hub"], "model.id=None is not a hub id"),
        (["model=hub", "model.id=a/b", "model.revision=main"], "not a pinned revision"),
        (["model=hub", "model.id=../x", "model.revision=main"], "not a hub id"),
        (["model=local"], "model.path is missing"),
        (["model=local", "model.path=/no/such/folder"], "there is no folder /no/such/folder"),
        (["evaluation.data=none.jsonl"], "there is no file"),
        (["evaluation.data=README.md"], "README.md': must end in .jsonl, .csv or .parquet"),
        (["evaluation.examples=none.csv"], "evaluation.examples='none.csv': there is no file"),
        (["evaluation.data=null"], "evaluation.data is missing"),
        (["evaluation.system=' '"], "evaluation.system is blank"),
        (["evaluation.template='Say {it}'"], "template='Say {it}' has no {question}"),
        (["evaluation.columns.answer=question"], "question and .*answer are both 'question'"),
        (["batch.columns.error=answer"], "answer and .*error are both 'answer'"),
        (["evaluation.columns.answer=' '"], "evaluation.columns.answer is blank"),
        (["evaluation.dataset.id=a/b"], "evaluation=capitals has no evaluation.dataset; choose"),
        (["evaluation=hub"], "evaluation.dataset.id=None is not a hub id"),
        ([*HUB_DATASET, "evaluation.dataset.revision=main"], "dataset.revision='main' is not a"),
        ([*HUB_DATASET, "evaluation.dataset.file=../a.csv"], "'../a.csv' is not a file of the"),
        ([*HUB_DATASET, "evaluation.dataset.file=/a.csv"], "'/a.csv' is not a file of the"),
        ([*HUB_DATASET, "evaluation.dataset.file=a.py"], "file='a.py': must end in .jsonl"),
        ([*HUB_DATASET, "evaluation.data=README.md"], "give one of them"),
        (["evaluation.limit=0"], "evaluation.limit=0"),
        (["registry.name='a b'"], "registry.name='a b'"),
        (["registry.alias=v1.2"], "registry.alias='v1.2': MLflow allows no '.' in an alias"),
        (["registry.alias=v12"], "registry.alias='v12': MLflow reserves"),
        (["registry.alias=champion"], "registry.alias=champion: .* set registry.promote=true"),
        (["registry.promote=maybe"], "registry.promote=maybe: must be true or false"),
        (["registry.gate.n.mim=1"], "Did you mean registry.gate.<column>.min?"),
        (["registry.gate={}"], "registry.gate: unknown"),
        (["registry.gate.exact_match={min: 1}"], "registry.gate.exact_match: unknown"),
        (["registry.gate.token_f1.min=high"], "registry.gate.token_f1.min=high: must be a number"),
        (["registry.gate.n.min=true"], "registry.gate.n.min=True: must be a number"),
        (["registry.gate.n.min="], "registry.gate.n.min=: must be a number"),
        (["registry.gate.n.min=[1]"], r"registry.gate.n.min=\[1\]: must be a number"),
        (["registry.gate.n.min=nan"], "registry.gate.n.min=nan: must be a finite number"),
        (["registry.gate.n.max_drop=-1"], "n.max_drop=-1.0: must be 0 or more"),
        (["registry.gate.n.min=2", "registry.gate.n.max=1"], "n.min=2.0: is above .*n.max=1.0"),
        (["registry.alias=Latest"], "registry.alias='Latest': MLflow reserves"),
        (["hydra.run.dir=/tmp"], "hydra.run.dir: unknown"),
        (["model.licence='MIT; rm -rf'"], "model.licence='MIT; rm -rf': give an SPDX id"),
        (["verify.model_uri=''"], "verify.model_uri is empty"),
        (["verify.public_key=/no/key.pem"], "verify.public_key='/no/key.pem': there is no file"),
        (["verify.signature=README.md"], "verify.signature: give verify.public_key too"),
    ],
)
def test_invalid_values_are_rejected(overrides: list[str], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        load(overrides)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{{ 1 }" + b" " * 1_000_000, "has more than 1000 kB"),
        (b"\xef\xbb\xbf{{ messages }}", "begins with a byte order mark"),
        (b" \n", "is empty"),
        (b"\xff\xfe{\x00", "is not UTF-8 text"),
        (b"{% for message in messages %}", "the model's chat template is invalid"),
        (b"{% if true %}" * 3000, "the model's chat template is invalid"),
    ],
    ids=["large", "mark", "empty", "utf-16", "open", "nested"],
)
def test_template_that_is_none_is_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "template.jinja"
    file.write_bytes(content)
    with pytest.raises(BadArguments, match=f"model.template='{file}': .*{message}"):
        load([f"model.template={file}"])


def test_template_must_be_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(BadArguments, match=f"there is no file {path}"):
            load([f"model.template={path}"])


def test_unknown_key_lists_the_keys_of_its_section() -> None:
    with pytest.raises(BadArguments) as error:
        load(["registry.gaet.x=1", "generation.temprature=1"])

    of_registry, of_generation = str(error.value).splitlines()
    assert of_registry.endswith(
        "In registry the keys are registry.alias, registry.command, registry.flavor, "
        "registry.gate.<column>.max, registry.gate.<column>.max_drop, "
        "registry.gate.<column>.min, registry.name, registry.promote, registry.stage, "
        "registry.version, registry.webhook."
    )
    assert of_generation.endswith(
        "In generation the keys are generation.max_new_tokens, generation.temperature, "
        "generation.template.<variable>, generation.top_p."
    )


def test_all_problems_are_in_one_message() -> None:
    with pytest.raises(BadArguments) as error:
        load(["generation.temperature=3", "target.quantization.bits=5", "registry.alias=' '"])

    assert len(str(error.value).splitlines()) == 3


def test_template_variables_keep_their_json_types() -> None:
    config = load(
        [
            "generation.template.enable_thinking=false",
            "generation.template.effort=high",
            "generation.template.budget=512",
            "generation.template.languages=[fi, null]",
            "generation.template.options={a: {b: 1.5}}",
        ]
    )

    assert config.generation.template == {
        "enable_thinking": False,
        "effort": "high",
        "budget": 512,
        "languages": ["fi", None],
        "options": {"a": {"b": 1.5}},
    }


def test_template_variable_is_one_entry_of_the_flat_config() -> None:
    """So an empty object and none at all have different keys."""
    flat = configs.flatten(load(["generation.template.options={}"]))
    assert flat["generation.template.options"] == {}
    assert not [name for name in configs.flatten(load([])) if "generation.template" in name]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("generation.template.messages=[]", "messages is set by slmflow itself"),
        ("generation.template.bos_token=x", "bos_token is set by slmflow itself"),
        ("generation.template.tokenize=false", "tokenize is set by slmflow itself"),
        ("generation.template.x=nan", "x: nan is not JSON"),
        ("generation.template.x={1: a}", "x: {1: 'a'} is not JSON"),
        ("generation.template.x=" + "[" * 18 + "]" * 18, "nested more than 16 levels deep"),
        (f"generation.template.x={'a' * 10_001}", "x has 10,003 characters"),
        ("generation.template.x.y=1", "generation.template.x.y: unknown"),
    ],
)
def test_unusable_template_variable_is_rejected(override: str, problem: str) -> None:
    with pytest.raises(BadArguments, match=re.escape(problem)):
        load([override])
