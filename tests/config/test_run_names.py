"""Short names of runs and models, from the config that they have."""

import pytest

from slmflow.config import compose, run_names

HUB = "evaluation.dataset"
PARTS = ("model", "target", "exporter", "calibration", "generation", "evaluation", "measurement")


def _name(*overrides: str, parts: tuple[str, ...] = PARTS) -> str:
    return run_names.describe(compose.flatten(compose.load(overrides)), parts)


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "tiny_phi3 cpu_int4"),
        (["target=cpu_int8"], "tiny_phi3 cpu_int8"),
        (["target=cpu_balanced"], "tiny_phi3 cpu_balanced"),
        (["target=cpu_int4_rtn", "exporter=builder"], "tiny_phi3 cpu_int4_rtn builder"),
        (["target.quantization.block_size=64"], "tiny_phi3 cpu_int4 b64"),
        (["generation=sampling"], "tiny_phi3 cpu_int4 t0.2"),
        (["generation.temperature=0.7", "evaluation.limit=20"], "tiny_phi3 cpu_int4 t0.7 n20"),
        (["evaluation.seed=3"], "tiny_phi3 cpu_int4 seed=3"),
        (["evaluation=lm_eval", "evaluation.tasks=[quiz]"], "tiny_phi3 cpu_int4 quiz"),
        (
            [
                "evaluation=hub",
                f"{HUB}.id=a/rows",
                f"{HUB}.revision={'a' * 40}",
                f"{HUB}.file=x.csv",
            ],
            "tiny_phi3 cpu_int4 rows",
        ),
        (["model=local", "model.path=bundled/tiny_phi3"], "tiny_phi3 cpu_int4"),
        (["model=smollm2_135m"], "smollm2_135m cpu_int4"),
        (
            ["registry.promote=true", "serve.port=9000", "batch.partition_rows=2"],
            "tiny_phi3 cpu_int4",
        ),
    ],
)
def test_name_says_what_differs_from_the_defaults(overrides: list[str], name: str) -> None:
    assert _name(*overrides) == name


def test_name_leaves_out_what_a_step_does_not_read() -> None:
    assert _name("generation.temperature=0.7", parts=("model",)) == "tiny_phi3"


def test_swept_keys_are_named_even_with_their_default() -> None:
    values = compose.flatten(compose.load([]))

    name = run_names.describe(values, PARTS, ["generation.temperature"])

    assert name == "tiny_phi3 cpu_int4 t0"


def test_all_values_of_a_sweep_are_named() -> None:
    swept = {"target": "cpu_int4,cpu_int8", "generation.temperature": "0.0,0.7"}
    values = compose.flatten(compose.load([]), swept)

    assert run_names.describe(values, PARTS, swept) == "tiny_phi3 cpu_int4,cpu_int8 t0.0,0.7"


def test_long_names_are_cut() -> None:
    name = run_names.shorten("a\n" + "word " * 40)

    assert len(name) <= run_names.MAX_LENGTH
    assert name.startswith("a word word")
    assert name.endswith(" wo…")
