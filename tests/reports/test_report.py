# ruff: noqa: E501
import dataclasses
from pathlib import Path

import mlflow
import pytest

from slmflow.reports import html_report as page
from slmflow.reports import markdown as md
from slmflow.reports import report, run_description, terminal, workflow_summary
from tests.metrics.samples import COMPARISON, FINDINGS, FINDINGS_ALONE, GENAI, HOSTILE, TRANSFORMERS

MARKDOWN = """\
# tiny\\_phi3 on cpu\\_int4 (optimum)

genai: 96.4% exact match, 33.3 ms median latency; transformers: 97.4% exact match, \
449.4 ms median latency. Beyond chance (p &lt; 0.05, a paired test of each metric by itself) genai \
is worse than transformers in token\\_f1 p = 0.031, politeness p &lt; 0.001.

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

- transformers: `models:/m-1`
- genai: `models:/m-2`

## Parity of the conversion

- `parity.exact_max_abs_diff` 5.2e-06: the proof: the largest difference of any logit from the original, computing exactly and with the same quantized weights on both sides
- `parity.tokenizer_mismatches` 0: the proof: probe texts that the two tokenize otherwise
- `parity.top1_agreement` 86.8%: what rounding costs: positions with the same most likely next token
- `parity.mean_kl` 0.0391 nats: what rounding costs: divergence of the probabilities of the next token, mean
- `parity.max_abs_diff` 2.06: what rounding costs: the largest difference of any logit from the original weights'

## Row by row

Of 5 rows 2 are answered worse, 1 better, 1 in other words but no worse or better, 1 in the same words.

- question: Capital of Japan?
  - expected: It is Tokyo.
  - transformers: It is Tokyo.
  - genai: {hostile}
- question: {hostile}
  - expected: It is Paris.
  - transformers: It is Paris.
  - genai: It is Paris

Asked: rows capitals.jsonl, system Be &lt;brief&gt;..

Measured on: cpu Z80 &lt;at&gt; 4 MHz, memory 64.0 GB.
"""


def test_markdown() -> None:
    told = report.markdown(FINDINGS)
    assert told == MARKDOWN.format(hostile=md.text(HOSTILE))


def test_a_model_alone_has_no_tests_rows_or_parity() -> None:
    told = report.markdown(FINDINGS_ALONE)
    assert "\n| figure | genai | what it is |\n" in told
    assert "`p`" not in told
    assert "##" not in told
    assert told.startswith(
        "# models:/chat\\$/1\n\ngenai: 96.4% exact match, 33.3 ms median latency.\n"
    )
    assert told.endswith("\n\nMeasured on: cpu Z80.\n")


def test_description_has_the_verdict_first_and_links_of_the_ui() -> None:
    told = run_description.markdown(FINDINGS)
    assert told.startswith("**genai: 96.4% exact match, 33.3 ms median latency; transformers: ")
    assert "[conversion](#/experiments/7/runs/f00d)" in told
    assert "[model genai](#/experiments/7/models/m-2)" in told
    table = told.replace("&emsp;", "")
    assert "| exact match | 97.4% (94.9% to 99.5%) | 96.4% (93.8% to 98.5%) |" in table
    assert "peak memory" not in told  # it was not measured of both
    assert "models:" not in run_description.markdown(FINDINGS_ALONE)  # no page of a logged model


def test_description_fits_a_tag() -> None:
    many = {f"metric_{number}": 0.5 for number in range(500)}
    genai = dataclasses.replace(GENAI, further=many, p_values=dict.fromkeys(many, 0.01))
    reference = dataclasses.replace(TRANSFORMERS, further=many)
    comparison = dataclasses.replace(COMPARISON, figures=(reference, genai))
    assert (
        len(run_description.markdown(dataclasses.replace(FINDINGS, comparison=comparison))) == 5000
    )


def test_all_files_are_logged_and_on_the_workflows_run_too(tracking: str) -> None:
    with mlflow.start_run() as run:
        comparison = dataclasses.replace(COMPARISON, run_id=run.info.run_id)
        report.log(dataclasses.replace(FINDINGS, comparison=comparison))
    with mlflow.start_run() as main:
        workflow_summary.log(comparison)
    first, second = (mlflow.get_run(each.info.run_id) for each in (run, main))
    assert first.data.metrics == second.data.metrics
    assert first.data.metrics["genai.exact_match"] == 0.964
    noted = [each.data.tags["mlflow.note.content"] for each in (first, second)]
    assert noted == [run_description.markdown(FINDINGS)] * 2
    for each in (run, main):
        logged = {file.path for file in mlflow.artifacts.list_artifacts(run_id=each.info.run_id)}
        assert logged == {"comparison.json", "comparison.md", "comparison.html", "comparison.png"}
    shown = mlflow.artifacts.load_text(f"runs:/{main.info.run_id}/comparison.html")
    assert shown == page.html(FINDINGS)


def test_table_fits_a_narrow_screen_and_the_page_is_named(
    tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mlflow.start_run() as run:
        comparison = dataclasses.replace(COMPARISON, run_id=run.info.run_id)
        report.log(dataclasses.replace(FINDINGS, comparison=comparison))
    capsys.readouterr()

    terminal.show(comparison)

    table, _, page = capsys.readouterr().err.partition("The report is ")
    assert "97.4% (94.9% to 99.5%)" in table
    assert "politeness p < 0.001." in " ".join(table.split())
    assert max(len(line.rstrip()) for line in table.splitlines()) < 80
    assert Path(page.strip()).name == "comparison.html"
    assert Path(page.strip()).is_file()
