# ruff: noqa: E501
from slmflow.reports import markdown as md
from slmflow.reports import markdown_report
from tests.metrics.samples import HOSTILE, REPORT, REPORT_ALONE

MARKDOWN = """\
# tiny\\_phi3 on cpu\\_int4 (optimum)

genai is good enough to serve: against transformers on 195 rows, exact match changes by -1.0 points (95 % interval -3.6 to +1.6) and token F1 by -0.4 points (-1.0 to -0.06), within the margin of 5 points.

genai: 96.4% exact match, 33.3 ms median latency; transformers: 97.4% exact match, 449.4 ms median latency.

| metric | transformers (fp32) | genai (int4) | difference | p | meaning |
| --- | ---: | ---: | ---: | ---: | --- |
| `n` | 195 | 195 | - | - | number of rows evaluated |
| `exact_match` | 97.4% (94.9% to 99.5%) | 96.4% (93.8% to 98.5%) | -1.0 points (-3.6 to +1.6) | 0.688 | share of answers equal to the expected text, ignoring case, spaces and a final period |
| `exact_match_strict` | 92.3% | 91.8% | - | - | share of answers equal to the expected text, character by character |
| `contains` | 97.4% | 96.4% | - | - | share of answers that contain the expected text |
| `token_f1` | 99.5% | 99.1% | -0.4 points (-1.0 to -0.06) | 0.031 | word overlap with the expected text, F1 as in SQuAD |
| `rouge_l` | 99.5% | 99.1% | - | - | word sequence shared with the expected text, ROUGE-L F-measure |
| `bleu` | 98.6 | 97.1 | - | - | BLEU of all answers by sacrebleu, 0 to 100 |
| `agreement` | - | 96.9% (94.4% to 99.0%) | - | - | share of answers equal to those of transformers |
| `shared_prefix` | - | 98.8% | - | - | share of tokens before the first difference from the answer of transformers |
| `perplexity` | 1.181 | - | - | - | perplexity of the expected answers; 1 is certainty |
| `timed_rows` | 32 | 32 | - | - | rows that the times below rest on, one request at a time |
| `ttft_ms_p50` | 62.0 ms | - | - | - | median time to the first token |
| `latency_ms_p50` | 449.4 ms | 33.3 ms | - | - | median time to the whole answer |
| `latency_ms_p95` | 1,653.0 ms | 43.0 ms | - | - | 95th percentile of the latency |
| `latency_ms_p99` | 1,702.0 ms | 44.5 ms | - | - | 99th percentile of the latency |
| `prefill_tokens_per_s` | 450.2 /s | - | - | - | prompt tokens processed per second, over the timed rows |
| `decode_tokens_per_s` | 34.6 /s | - | - | - | tokens generated per second after the first token, over the timed rows |
| `load_s` | 2.88 s | 0.11 s | - | - | time to load the model from local files |
| `peak_rss_mb` | 638 MB | - | - | - | peak memory of the process up to its last timed request |
| `model_size_mb` | 8.1 MB | 3.2 MB | - | - | size of the MLflow model's files |
| `politeness` | 3.25 (3 to 3.5) | 0.5 | -2.8 (-3.1 to -2.4) | <0.001 | mean of my\\_metrics:politeness |

`-`: not measured. In parentheses: 95 % confidence interval, by bootstrap over the rows; for shares
of exactly 0 % or 100 %, by the rule of three.
`difference`: from the reference over the same rows, of shares in points, of the perplexity in
percent. `p`: p-value of a paired test, which says whether there is a difference, not how large.

The times rest on 32 rows.

- transformers: `models:/m-1`
- genai: `models:/m-2`

## Parity of the conversion

- `parity.exact_max_abs_diff` 5.2e-06: proof: largest difference of any logit from the original, in exact arithmetic and with the same quantized weights on both sides
- `parity.tokenizer_mismatches` 0: proof: texts and conversations that slmflow encodes otherwise than transformers
- `fidelity.mean_kl` 0.0627 nats (0.0509 to 0.0746): held-out text: mean KL divergence of the next-token probabilities from the original's
- `fidelity.top1_agreement` 86.2%: held-out text: positions with the same most likely next token
- `fidelity.perplexity_ratio` 1.031 (1.012 to 1.051): held-out text: perplexity over the original's
- `fidelity.rtn_mean_kl` 0.0912 nats: held-out text: the same of plain rounding with as many bits
- `fidelity.rtn_top1_agreement` 82.3%: held-out text: the same of plain rounding
- `fidelity.rtn_perplexity_ratio` 1.078: held-out text: the same of plain rounding
- `parity.top1_agreement` 86.8%: rounding error: positions with the same most likely next token
- `parity.mean_kl` 0.0391 nats: rounding error: mean KL divergence of the next-token probabilities
- `parity.max_abs_diff` 2.06: rounding error: largest difference of any logit from the original

## Row by row

Of 5 rows, 2 are answered worse, 1 better, 1 differently with the same scores, and 1 identically.

- question: Capital of Japan?
  - expected: It is Tokyo.
  - transformers: It is Tokyo.
  - genai: {hostile}
- question: {hostile}
  - expected: It is Paris.
  - transformers: It is Paris.
  - genai: It is Par

Settings: data capitals.jsonl, system Be &lt;brief&gt;..

Machine: cpu Z80 &lt;at&gt; 4 MHz, memory 64.0 GB.
"""


def test_report_has_every_section() -> None:
    assert markdown_report.render(REPORT) == MARKDOWN.format(hostile=md.text(HOSTILE))


def test_single_model_has_no_tests_rows_or_parity() -> None:
    report = markdown_report.render(REPORT_ALONE)
    assert "\n| metric | genai | meaning |\n" in report
    assert "`p`" not in report
    assert "##" not in report
    assert report.startswith(
        "# models:/chat\\$/1\n\nNothing is compared: models:/chat\\$/1 is evaluated alone.\n\n"
        "genai: 96.4% exact match, 33.3 ms median latency.\n"
    )
    assert report.endswith("\n\nMachine: cpu Z80.\n")
