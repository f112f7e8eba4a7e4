"""Does the converted model compute what the original computes? Logits and token ids, compared.

The original is transformers' own forward pass in fp32; the converted model runs in the GenAI
runtime, on the CPU, the way it will be served.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from steps.common.console import counting
from steps.common.errors import UserError
from steps.convert.export import architecture

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What the original makes of one probe text.

    prompt: the text as a user turn in the chat template; text_ids, prompt_ids: token ids of both;
    logits: float32 [tokens of the prompt, vocabulary].
    """

    text: str
    prompt: str
    text_ids: list[int]
    prompt_ids: list[int]
    logits: Logits


@dataclass(frozen=True)
class Parity:
    """How far the converted model is from the original, over all probes.

    max_abs_diff: largest absolute difference of any logit; mean_kl: Kullback-Leibler divergence
    of the next-token distributions, original to converted, in nats, mean over positions;
    top1_agreement: share of positions with the same most likely token; tokenizer_mismatches:
    number of probe texts that the runtime's tokenizer or chat template renders differently.
    """

    max_abs_diff: float
    mean_kl: float
    top1_agreement: float
    tokenizer_mismatches: int


def run_original(weights: Path, texts: Sequence[str]) -> list[Reference]:
    """Run transformers' model of a snapshot folder over the probe texts.

    Raises UserError for a model that transformers cannot load, or that has no chat template.
    """
    tokenizer, model = _load(weights)
    references = []
    with counting() as progress, torch.inference_mode():
        for text in progress.track(texts, description="parity: original"):
            turn = [{"role": "user", "content": text}]
            prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(prompt, add_special_tokens=False).input_ids
            logits = model(torch.tensor([ids])).logits[0].numpy()
            text_ids = tokenizer(text, add_special_tokens=False).input_ids
            references.append(Reference(text, prompt, text_ids, ids, logits))
    return references


def _load(weights: Path) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            weights, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise UserError(
            f"transformers cannot load the model ({architecture(weights)}): "
            f"{str(error).splitlines()[0][:200]}. See that config.json, the tokenizer and the "
            "weights belong together, and that it is a causal language model"
        ) from error
    if tokenizer.chat_template is None:
        raise UserError(
            f"the model ({architecture(weights)}) has no chat template, so it cannot take chat "
            "messages: choose its instruct version, or add chat_template.jinja to its folder"
        )
    return tokenizer, model.eval()


def compare(references: Sequence[Reference], folder: Path, what: str) -> Parity:
    """Run the converted model over what the original was given and compare.

    what: which state of the model this is, for the progress bar.
    """
    config = og.Config(str(folder))
    config.clear_providers()
    model = og.Model(config)
    tokenizer = og.Tokenizer(model)
    mismatches = sum(not _tokenizes_alike(reference, tokenizer) for reference in references)
    differences, divergences, agreements = [], [], []
    with counting() as progress:
        for reference in progress.track(references, description=f"parity: {what}"):
            logits = _run(model, reference.prompt_ids)
            differences.append(np.abs(logits - reference.logits).max())
            divergences.append(_kl(reference.logits, logits))
            agreements.append(logits.argmax(-1) == reference.logits.argmax(-1))
    return Parity(
        max_abs_diff=float(max(differences)),
        mean_kl=float(np.concatenate(divergences).mean()),
        top1_agreement=float(np.concatenate(agreements).mean()),
        tokenizer_mismatches=mismatches,
    )


def _tokenizes_alike(reference: Reference, tokenizer: og.Tokenizer) -> bool:
    turn = json.dumps([{"role": "user", "content": reference.text}])
    found = (
        tokenizer.apply_chat_template(turn, add_generation_prompt=True),
        tokenizer.encode(reference.prompt).tolist(),
        tokenizer.encode(reference.text).tolist(),
    )
    return found == (reference.prompt, reference.prompt_ids, reference.text_ids)


def _run(model: og.Model, ids: Sequence[int]) -> Logits:
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + 1)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array([ids], dtype=np.int32))
    return np.asarray(generator.get_output("logits")[0], dtype=np.float32)


def _kl(reference: Logits, other: Logits) -> NDArray[np.float64]:
    """Return KL(reference || other) of the softmax at each position: float64 [positions]."""
    p, q = _log_softmax(reference), _log_softmax(other)
    return np.asarray((np.exp(p) * (p - q)).sum(-1))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
