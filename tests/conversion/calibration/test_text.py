"""Calibration text, read from files and cut into windows of token ids."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from slmflow.config import compose as configs
from slmflow.conversion.calibration import text
from slmflow.errors import UserError
from slmflow.paths import PROJECT

BUNDLED = [PROJECT / "bundled" / name for name in ("calibration", "held_out")]
PREFIXES: dict[str, list[str]] = {"none": [], "bos": ["<s>"], "two": ["<mask>", "<s>"]}


@pytest.fixture(scope="module", params=PREFIXES)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Bytes as tokens, with special tokens before the text, and with one after it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {
        token: number for number, token in enumerate(["<s>", "</s>", "<mask>", *alphabet])
    }
    bytes_only = Tokenizer(models.BPE(vocabulary, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens(["<s>", "</s>", "<mask>"])
    first = PREFIXES[request.param]
    bytes_only.post_processor = processors.TemplateProcessing(
        single=[*first, "$A", "</s>"],
        special_tokens=[(token, vocabulary[token]) for token in (*first, "</s>")],
    )
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=bytes_only, **named)


def numbered(count: int) -> str:
    """Return a text whose every part occurs once."""
    return " ".join(map(str, range(count)))


def first_tokens(tokenizer: Any) -> list[int]:
    return tokenizer("").input_ids[:-1]


def contents(tokenizer: Any, windows: list[list[int]]) -> list[str]:
    """Return the text of windows behind their special tokens, which it checks."""
    first = first_tokens(tokenizer)
    assert all(window[: len(first)] == first for window in windows)
    return [tokenizer.decode(window[len(first) :]) for window in windows]


def test_folder_has_a_text_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeffzweiter\r\nText".encode())
    (tmp_path / "a.TXT").write_text("первый текст", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no text")
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "c.txt").write_text("no text")

    assert text.read(tmp_path, "calibration.data") == ["первый текст", "zweiter\nText"]
    assert text.read(tmp_path / "b.txt", "calibration.data") == ["zweiter\nText"]


def test_link_within_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a text")
    (tmp_path / "link.txt").symlink_to("real")
    assert text.read(tmp_path, "calibration.data") == ["a text"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^calibration.data: .*own.txt is blank"),
        (b" \n\t\n", "own.txt is blank"),
        ("Grüße".encode("latin-1"), "own.txt is not UTF-8 text: .*save it as UTF-8"),
        ("text".encode("utf-16"), "own.txt is not UTF-8 text"),
    ],
    ids=["empty", "spaces", "latin-1", "utf-16"],
)
def test_file_without_text_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "good.txt").write_text("a text")
    (tmp_path / "own.txt").write_bytes(content)
    for path in (tmp_path, tmp_path / "own.txt"):
        with pytest.raises(UserError, match=message):
            text.read(path, "calibration.data")


def test_text_that_a_target_does_not_use_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ("cpu_int8", "cpu_fp32"):
        config = configs.load([f"target={target}", f"calibration.data={tmp_path}"])
        assert text.read_for_target(config.calibration, config.target) == []
        assert f"{target} is not calibrated" in capsys.readouterr().err
    config = configs.load(["target=cpu_int8"])
    assert text.read_for_target(config.calibration, config.target) == []
    assert capsys.readouterr().err == ""


def test_folder_without_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(UserError, match=f"{tmp_path} has no .txt file"):
        text.read(tmp_path, "calibration.data")


def test_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "folder.txt" / "dangling.txt").symlink_to("nothing")
    for path in (tmp_path / "missing", Path("/dev/zero"), tmp_path, tmp_path / "folder.txt"):
        with pytest.raises(UserError, match="is not a file"):
            text.read(path, "calibration.data")


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "loop.txt"])
def test_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (tmp_path / "secret").write_text("a secret")
    (folder / "loop.txt").symlink_to(target)
    with pytest.raises(UserError, match=r"loop\.txt"):
        text.read(folder, "calibration.data")


def test_enormous_files_are_read_in_part(tmp_path: Path) -> None:
    """A sparse file of 1 TB, whose beginning alone could be read in reasonable time."""
    for name, size in (("a.txt", 10**12), ("b.txt", 10**12), ("c.txt", 10**11)):
        with (tmp_path / name).open("wb") as stream:
            stream.write(b"a text ")
            stream.truncate(size)

    sizes = [len(each) for each in text.read(tmp_path, "calibration.data")]

    assert sum(sizes) <= 4_000_003
    assert sizes[0] == sizes[1] == pytest.approx(10 * sizes[2], rel=1e-3)


def test_part_of_very_many_files_is_read(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"{number:04}.txt").write_text(f"{number:04}" + "é" * 4000)

    texts = text.read(tmp_path, "calibration.data")

    assert 300 < len(texts) < 600
    assert min(map(len, texts)) > 2000
    assert [texts[0][:4], texts[-1][:4]] == ["0000", "1197"]


def test_windows_are_spread_evenly(tokenizer: Any) -> None:
    joined = numbered(2000)

    windows = text.windows(tokenizer, [joined], tokens=2048, length=256)

    assert [len(window) for window in windows] == [256] * 8
    parts = contents(tokenizer, windows)
    starts = [joined.index(part) for part in parts]
    distances = [after - before for before, after in itertools.pairwise(starts)]
    ends = (starts[0], len(joined) - starts[-1] - len(parts[-1]))
    assert max(distances) - min(distances) <= 1
    assert ends == pytest.approx(((distances[0] - len(parts[0])) / 2,) * 2, abs=2)


def test_texts_have_windows_by_their_length(tokenizer: Any) -> None:
    texts = [letter * count for letter, count in (("a", 6000), ("b", 3000), ("c", 1500))]

    drawn = "".join(contents(tokenizer, text.windows(tokenizer, texts, 3584, 64)))

    shares = [drawn.count(letter) / len(drawn) for letter in "abc"]
    assert shares == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.02)


def test_short_texts_are_joined_by_blank_lines(tokenizer: Any) -> None:
    texts = [f"{numbered(30)}\n", *[f"\n{number} short" for number in range(60)]]

    whole = "".join(contents(tokenizer, text.windows(tokenizer, texts, 4096, 128)))

    assert "29\n\n0 short\n\n1 short\n\n2 short" in whole


def test_all_of_a_text_with_too_few_tokens_is_used(
    tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = numbered(1000)[:3000]

    windows = text.windows(tokenizer, [joined], tokens=4096, name="calibration.held_out")

    assert len(windows) == 5
    assert len(set(contents(tokenizer, windows))) == 5
    warning = " ".join(capsys.readouterr().err.split())
    assert "calibration.held_out has 3,000 tokens of this model, fewer than 4,096" in warning


def test_enough_tokens_give_no_warning(tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text.windows(tokenizer, [numbered(2000)], tokens=4096)
    assert not capsys.readouterr().err


def test_less_than_a_window_is_an_error(tokenizer: Any) -> None:
    message = "calibration.data has only 511 tokens of this model: .* at least 512, better .* 4,096"
    with pytest.raises(UserError, match=message):
        text.windows(tokenizer, [numbered(500)[:511]], tokens=4096)

    assert len(text.windows(tokenizer, [numbered(500)[:515]], tokens=4096)) == 1


def test_short_context_gets_more_windows(tokenizer: Any) -> None:
    windows = text.windows(tokenizer, [numbered(2000)], tokens=1024, length=64)
    assert [len(window) for window in windows] == [64] * 16


@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_bundled_text_is_enough_for_the_bundled_model(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(PROJECT / "bundled" / "tiny_phi3")
    texts = text.read(folder, "calibration.data")

    windows = text.windows(tokenizer, texts, tokens=2048)

    assert len(texts) == 4
    assert [len(window) for window in windows] == [512] * 4
