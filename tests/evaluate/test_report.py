# ruff: noqa: E501
import io

import pytest
from matplotlib import image
from matplotlib.container import BarContainer

from steps.evaluate import plot, report
from tests.evaluate.figures import EVALUATION

MARKDOWN = """\
# tiny_phi3 on cpu_int4 (optimum)

| figure | transformers | genai | p | what it is |
| --- | ---: | ---: | ---: | --- |
| `n` | 195 | 195 | - | rows of the evaluation data |
| `exact_match` | 97.4% (94.9% to 99.5%) | 96.4% (93.8% to 98.5%) | 0.688 | answers that are the expected text |
| `contains` | 97.4% | 96.4% | - | answers that have the expected text in them |
| `token_f1` | 99.5% | 99.1% | 0.031 | words shared with the expected text, F1 as in SQuAD |
| `rouge_l` | 99.5% | 99.1% | - | words in the expected text's order, ROUGE-L F measure |
| `bleu` | 98.6 | 97.1 | - | of all answers together, sacrebleu, 0 to 100 |
| `agreement` | - | 96.9% (94.4% to 99.0%) | - | answers that are the transformers flavor's text |
| `shared_prefix` | - | 98.8% | - | tokens before the first that differs from the transformers flavor's |
| `perplexity` | 1.181 | - | - | of the expected answers; 1 is certainty |
| `accuracy` | - | - | - | questions whose most likely choice is the right one |
| `ttft_ms_p50` | 62.0 ms | - | - | time to the first token, median |
| `latency_ms_p50` | 449.4 ms | 33.3 ms | - | time to the whole answer, median |
| `latency_ms_p95` | 1,653.0 ms | 43.0 ms | - | time to the whole answer, 95th percentile |
| `latency_ms_p99` | 1,702.0 ms | 44.5 ms | - | time to the whole answer, 99th percentile |
| `prefill_tokens_per_s` | 450.2 /s | - | - | tokens of the prompts taken in, of all rows |
| `decode_tokens_per_s` | 34.6 /s | - | - | tokens generated after the first, of all rows |
| `load_s` | 2.88 s | 0.11 s | - | from files on disk to a model that can answer |
| `peak_rss_mb` | 638 MB | - | - | most memory held while it answered, Python included |
| `model_size_mb` | 8.1 MB | 3.2 MB | - | files of the MLflow model |
| `politeness` | 3.25 (3 to 3.5) | 0.5 | <0.001 | mean of my\\_metrics:politeness |

`-`: not measured. In brackets: 95 % confidence interval, by bootstrap over the rows; of a share
that is all or nothing, by the rule of three. `p`: how likely chance alone parts the flavors this
far, by a paired test over the rows.

Beyond chance (p < 0.05, a paired test of each metric by itself) genai differs from transformers \
in token_f1 p = 0.031, politeness p < 0.001.

- transformers: `models:/m-1`
- genai: `models:/m-2`
"""


def test_markdown() -> None:
    assert report.markdown(EVALUATION) == MARKDOWN


def test_picture_is_drawn_also_where_figures_are_missing() -> None:
    buffer = io.BytesIO()
    plot.draw(EVALUATION.figures, EVALUATION.title).savefig(buffer)
    buffer.seek(0)
    height, width, _ = image.imread(buffer, format="png").shape
    assert (width, height) == (1800, 1260)


def test_bars_of_quality_have_their_intervals() -> None:
    panel = plot.draw(EVALUATION.figures, EVALUATION.title).axes[0]
    bars = [each for each in panel.containers if isinstance(each, BarContainer)]
    lines = [each.errorbar.lines[2][0].get_segments() for each in bars if each.errorbar]
    exact_match = [[float(height) for _, height in segments[0]] for segments in lines]
    assert exact_match == [pytest.approx([0.9487, 0.9949]), pytest.approx([0.9385, 0.9846])]
    token_f1 = lines[0][2]
    assert token_f1[0][1] == token_f1[1][1]  # it has none


def test_table_fits_a_narrow_screen(capsys: pytest.CaptureFixture[str]) -> None:
    EVALUATION.show()
    shown = capsys.readouterr().err
    assert "97.4% (94.9% to 99.5%)" in shown
    assert "politeness p < 0.001." in " ".join(shown.split())
    assert max(len(line.rstrip()) for line in shown.splitlines()) < 80
