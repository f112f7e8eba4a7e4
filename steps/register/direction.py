"""Which figures of the comparison are better high, and which low."""

MORE_IS_BETTER = {
    "n": True,
    "exact_match": True,
    "token_f1": True,
    "agreement": True,
    "perplexity": False,
    "ttft_ms_p50": False,
    "latency_ms_p50": False,
    "latency_ms_p95": False,
    "prefill_tokens_per_s": True,
    "decode_tokens_per_s": True,
    "load_s": False,
    "peak_rss_mb": False,
    "model_size_mb": False,
}
"""By column; these are the metrics that `registry.gate` may name."""
