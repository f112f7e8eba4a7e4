"""The engines that are timed, each behind the same two calls: read a prompt, generate a token.

slmflow and builder are graphs of the two exporters in ONNX Runtime GenAI; transformers is the
original in PyTorch, in bf16 where the CPU has instructions for it and in fp32 elsewhere; llama_cpp
is llama.cpp's Q4_0, where it is installed: `pip install` of `LLAMA_CPP` compiles it for the
machine's own CPU. Its KV cache is fp16, as llama.cpp has it by default; all others' are fp32.

Engines choose the most likely token, and go on after an end token. An engine's packages are
imported when it is loaded, so that a process holds those of one engine only.
"""

import json
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# No part of requirements.txt: it takes a C++ compiler and minutes. These versions are tested.
LLAMA_CPP = ("llama-cpp-python==0.3.36", "gguf==0.19.0")


class Engine(Protocol):
    """A loaded model, ready to generate one text at a time."""

    description: str

    def read(self, prompt: Sequence[int], room: int) -> None:
        """Begin anew: take in the prompt and choose the first of `room` tokens after it."""

    def step(self) -> None:
        """Take in the token chosen last, and choose the next."""


class Genai:
    """A folder with genai_config.json in ONNX Runtime GenAI."""

    def __init__(self, folder: Path, context: int, threads: int) -> None:
        """Load the model; a generator reserves its own context."""
        import onnxruntime_genai as og

        config = og.Config(str(folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._og, self._model = og, og.Model(config)
        self.description = f"onnxruntime-genai {metadata.version('onnxruntime-genai')}, int4"

    def read(self, prompt: Sequence[int], room: int) -> None:
        """Make a generator, run the prompt, choose a token."""
        params = self._og.GeneratorParams(self._model)
        length = len(prompt) + room
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        self._generator = self._og.Generator(self._model, params)
        self._generator.append_tokens(np.array(prompt, dtype=np.int32))
        self._generator.generate_next_token()

    def step(self) -> None:
        """Run the graph on the token chosen last: the runtime does so when asked for the next."""
        self._generator.generate_next_token()


class Transformers:
    """A snapshot folder in transformers, without what `generate` adds to the forward passes."""

    def __init__(self, folder: Path, context: int, threads: int) -> None:
        """Load the model; its KV cache grows with the text."""
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        able = torch.cpu.get_capabilities()
        fast_bf16 = able.get("avx512_bf16") or able.get("amx_bf16")
        dtype = torch.bfloat16 if fast_bf16 else torch.float32
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True
        )
        name = str(dtype).removeprefix("torch.")
        self.description = f"transformers {metadata.version('transformers')}, {name}"

    def read(self, prompt: Sequence[int], room: int) -> None:
        """Run the prompt with an empty cache."""
        self._run(self._torch.tensor([prompt]), None)

    def step(self) -> None:
        """Run the token chosen last with the cache."""
        self._run(self._token, self._cache)

    def _run(self, ids: Any, cache: Any) -> None:
        with self._torch.inference_mode():
            out = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._cache = out.past_key_values
        self._token = out.logits[:, -1:].argmax(-1)


class LlamaCpp:
    """A GGUF file in llama.cpp."""

    def __init__(self, file: Path, context: int, threads: int) -> None:
        """Load the model, with room for `context` tokens."""
        from llama_cpp import Llama

        self._llama: Any = Llama(
            str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.description = f"llama-cpp-python {metadata.version('llama-cpp-python')}, Q4_0"

    def read(self, prompt: Sequence[int], room: int) -> None:
        """Empty the cache and run the prompt."""
        self._llama.reset()
        self._run(prompt)

    def step(self) -> None:
        """Run the token chosen last."""
        self._run([self._token])

    def _run(self, ids: Sequence[int]) -> None:
        self._llama.eval(ids)
        self._token = self._llama.sample(temp=0.0)


# How each is loaded: with what it reads, the most tokens of prompt and answer, and the threads.
LOADERS: dict[str, Callable[[Path, int, int], Engine]] = {
    "slmflow": Genai,
    "builder": Genai,
    "transformers": Transformers,
    "llama_cpp": LlamaCpp,
}


def missing(engine: str) -> list[str]:
    """Return the modules that an engine needs and that are not installed here."""
    needed = ("llama_cpp", "gguf") if engine == "llama_cpp" else ()
    return [name for name in needed if find_spec(name) is None]
