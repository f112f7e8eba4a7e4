"""lm-evaluation-harness, by its models for local servers, on a task of its own."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import lm_eval
from cells import Server, cell, main

ROWS = [
    {"question": "The capital of France is", "choices": ["Rome", "Paris", "Oslo"], "answer": 1},
    {"question": "The capital of Italy is", "choices": ["Rome", "Paris", "Oslo"], "answer": 0},
    {"question": "The capital of Norway is", "choices": ["Rome", "Paris", "Oslo"], "answer": 2},
]


def evaluate(server: Server, model: str, endpoint: str, **task: Any) -> list[dict[str, Any]]:
    """Return the samples of a task over `ROWS`."""
    os.environ["OPENAI_API_KEY"] = server.key
    chat = model == "local-chat-completions"
    arguments: dict[str, Any] = {
        "model": server.model,
        "base_url": f"{server.api}/{endpoint}",
        "max_retries": 1,
        "num_concurrent": 2,
    }
    if not chat:
        arguments |= {"tokenizer": server.tokenizer, "tokenizer_backend": "huggingface"}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.jsonl")
        rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        os.environ["HF_DATASETS_CACHE"] = folder
        config = {
            "task": "capitals",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": folder},
            "test_split": "test",
            "doc_to_text": "{{question}}",
            **task,
        }
        results = lm_eval.simple_evaluate(
            model=model, model_args=arguments, tasks=[config], apply_chat_template=chat
        )
    samples: list[dict[str, Any]] = results["samples"]["capitals"]
    assert len(samples) == len(ROWS)
    return samples


GENERATION: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 16},
    "metric_list": [{"metric": "exact_match"}],
}


@cell("chat")
def chat(server: Server) -> None:
    samples = evaluate(server, "local-chat-completions", "chat/completions", **GENERATION)
    assert all(sample["resps"][0][0] for sample in samples)


@cell("completions")
def completions(server: Server) -> None:
    samples = evaluate(server, "local-completions", "completions", **GENERATION)
    assert all(sample["resps"][0][0] for sample in samples)


@cell("logprobs")
def logprobs(server: Server) -> None:
    """Likelihoods of choices, which need the log-probabilities of the prompt."""
    samples = evaluate(
        server,
        "local-completions",
        "completions",
        output_type="multiple_choice",
        doc_to_choice="{{choices}}",
        doc_to_target="answer",
        metric_list=[{"metric": "acc"}],
    )
    for sample in samples:
        likelihoods = [float(response[0][0]) for response in sample["resps"]]
        assert len(likelihoods) == 3 and all(-math.inf < each < 0 for each in likelihoods)
    assert samples[0]["acc"] == 1.0


main()
