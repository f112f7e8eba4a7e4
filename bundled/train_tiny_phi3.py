"""Build the bundled tiny Phi-3: evaluation set, tokenizer and trained model.

    python -m bundled.train_tiny_phi3            # train on CPU (minutes), then evaluate
    python -m bundled.train_tiny_phi3 --measure  # only evaluate the existing model

The same seed, machine and number of threads give the same files.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaTokenizerFast,
    Phi3Config,
    Phi3ForCausalLM,
)

from bundled.questions import (
    Message,
    conversation,
    countries,
    read_evaluation,
    wordings,
    write_evaluation,
)
from bundled.tokenizer import (
    ASSISTANT,
    CONTEXT,
    END,
    END_OF_TEXT,
    VOCAB_SIZE,
    build_tokenizer,
    save_tokenizer,
)

FOLDER = Path(__file__).parent / "tiny_phi3"
SEED = 20
STEPS = 1000
BATCH = 65
PASSES = 4  # over all countries per draw; a draw is sorted by length and split into batches
PEAK_LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1
IGNORED = -100  # label that transformers excludes from the loss

console = Console()


def tokenizer_corpus() -> Iterator[str]:
    """Yield the texts on which the tokenizer is trained."""
    rng = random.Random(SEED)  # noqa: S311 (reproducible, not secret)
    for _ in range(20):
        for country in countries():
            yield from (message["content"] for message in conversation(country, rng))


def new_model(tokenizer: LlamaTokenizerFast) -> Phi3ForCausalLM:
    """Build an untrained Phi-3 of 1.9 million parameters."""
    end_of_text, assistant, end = map(
        tokenizer.convert_tokens_to_ids, (END_OF_TEXT, ASSISTANT, END)
    )
    torch.manual_seed(SEED)
    model = Phi3ForCausalLM(
        Phi3Config(
            vocab_size=VOCAB_SIZE,
            hidden_size=192,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=6,
            max_position_embeddings=CONTEXT,
            original_max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
        )
    )
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[end_of_text, assistant, end],
        pad_token_id=end_of_text,
    )
    return model


def encode(tokenizer: LlamaTokenizerFast, messages: list[Message]) -> tuple[list[int], list[int]]:
    """Return the token ids and labels of a conversation; only the answer counts in the loss."""
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)
    answer = tokenizer.encode(messages[-1]["content"] + END)
    return prompt + answer, [IGNORED] * len(prompt) + answer


def training_batches(tokenizer: LlamaTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of conversations of similar length, endlessly."""
    rng = random.Random(SEED)  # noqa: S311 (reproducible, not secret)
    while True:
        drawn = [conversation(country, rng) for country in countries() * PASSES]
        encoded = sorted((encode(tokenizer, messages) for messages in drawn), key=_length)
        batches = [encoded[start : start + BATCH] for start in range(0, len(encoded), BATCH)]
        for batch in rng.sample(batches, len(batches)):
            yield (
                _pad([ids for ids, _ in batch], tokenizer.pad_token_id),
                _pad([labels for _, labels in batch], IGNORED),
            )


def _length(encoded: tuple[list[int], list[int]]) -> int:
    return len(encoded[0])


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    """Pad on the right, where causal attention needs no mask."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def train(model: Phi3ForCausalLM, tokenizer: LlamaTokenizerFast) -> None:
    """Train the model in place with AdamW and a one-cycle learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_LEARNING_RATE, total_steps=STEPS, pct_start=0.2
    )
    batches = training_batches(tokenizer)
    model.train()
    for step in track(range(1, STEPS + 1), "training", console=console):
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            console.print(f"step {step:5}  loss {loss.item():.4f}")


@torch.inference_mode()
def exact_match(system: str | None = None) -> float:
    """Return the share of evaluation questions answered exactly, with the end token.

    Greedy decoding with transformers in float32, in batches of 65 questions.
    """
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True)
    system_messages = [{"role": "system", "content": system}] if system else []
    rows, correct = read_evaluation(), 0
    for start in range(0, len(rows), 65):
        batch = rows[start : start + 65]
        inputs = tokenizer.apply_chat_template(
            [[*system_messages, {"role": "user", "content": row["question"]}] for row in batch],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        output = model.generate(**inputs, max_new_tokens=48, do_sample=False)
        answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :])
        correct += sum(
            answer.startswith(row["answer"] + END)
            for answer, row in zip(answers, batch, strict=True)
        )
    return correct / len(rows)


def build() -> None:
    """Write the evaluation set, the tokenizer and the trained model."""
    write_evaluation()
    tokenizer = build_tokenizer(tokenizer_corpus())
    save_tokenizer(tokenizer, FOLDER)
    model = new_model(tokenizer)
    console.print(f"{model.num_parameters():,} parameters, {STEPS} steps of {BATCH}")
    train(model, tokenizer)
    model.save_pretrained(FOLDER)


def main() -> None:
    """Build the model, except with --measure, and print its exact match."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="only evaluate the existing model")
    if not parser.parse_args().measure:
        build()
    with_system_message = exact_match(system=wordings()["systems"][0])
    console.print(f"exact match                        {exact_match():.1%}")
    console.print(f"exact match after a system message {with_system_message:.1%}")


if __name__ == "__main__":
    main()
