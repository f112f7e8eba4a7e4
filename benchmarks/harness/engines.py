"""The engines to time, each with the same two methods: prefill a prompt, decode one token.

slmflow and builder run the graphs of the two exporters in ONNX Runtime GenAI. transformers runs the
checkpoint in PyTorch, in bf16 if the CPU has instructions for it, else in fp32. llama_cpp runs
llama.cpp's Q4_0 if it is installed; `pip install` of `LLAMA_CPP` compiles it for this machine's
CPU. Its KV cache is fp16, the default of llama.cpp; all others are fp32.

Decoding is greedy and continues after an end token. An engine imports its packages when it is
loaded, so that a process holds those of one engine only.
"""

import json
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Not in requirements.txt, because it needs a C++ compiler and minutes. These versions are tested.
LLAMA_CPP = ("llama-cpp-python==0.3.36", "gguf==0.19.0")


class Engine(Protocol):
    """A loaded model, ready to generate one text at a time."""

    description: str

    def prefill(self, prompt: Sequence[int], new_tokens: int) -> None:
        """Start a new text: run the prompt and choose the first of `new_tokens` tokens."""

    def decode(self) -> None:
        """Run the last chosen token and choose the next."""


class Genai:
    """A folder with genai_config.json in ONNX Runtime GenAI."""

    def __init__(self, folder: Path, context: int, threads: int) -> None:
        """Load the model; a generator reserves its own context."""
        import onnxruntime_genai as og

        config = og.Config(str(folder))
        options = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._og, self._model = og, og.Model(config)
        self.description = f"onnxruntime-genai {metadata.version('onnxruntime-genai')}"

    def prefill(self, prompt: Sequence[int], new_tokens: int) -> None:
        """Create a generator, run the prompt, choose a token."""
        params = self._og.GeneratorParams(self._model)
        length = len(prompt) + new_tokens
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        self._generator = self._og.Generator(self._model, params)
        self._generator.append_tokens(np.array(prompt, dtype=np.int32))
        self._generator.generate_next_token()

    def decode(self) -> None:
        """Run the graph on the last token, which the runtime does when it generates the next."""
        self._generator.generate_next_token()


class Transformers:
    """A checkpoint in transformers: forward passes without the overhead of `generate`."""

    def __init__(self, folder: Path, context: int, threads: int) -> None:
        """Load the model; its KV cache grows with the text."""
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        dtype = torch.bfloat16 if has_bf16 else torch.float32
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True
        )
        name = str(dtype).removeprefix("torch.")
        self.description = f"transformers {metadata.version('transformers')}, {name}"

    def prefill(self, prompt: Sequence[int], new_tokens: int) -> None:
        """Run the prompt with an empty cache."""
        self._run(self._torch.tensor([prompt]), None)

    def decode(self) -> None:
        """Run the last token with the cache."""
        self._run(self._token, self._cache)

    def _run(self, ids: Any, cache: Any) -> None:
        with self._torch.inference_mode():
            output = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self._cache = output.past_key_values
        self._token = output.logits[:, -1:].argmax(-1)


class LlamaCpp:
    """A GGUF file in llama.cpp."""

    def __init__(self, file: Path, context: int, threads: int) -> None:
        """Load the model with a context of `context` tokens."""
        from llama_cpp import Llama

        self._llama: Any = Llama(
            str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.description = f"llama-cpp-python {metadata.version('llama-cpp-python')}, Q4_0"

    def prefill(self, prompt: Sequence[int], new_tokens: int) -> None:
        """Clear the cache and run the prompt."""
        self._llama.reset()
        self._run(prompt)

    def decode(self) -> None:
        """Run the last token."""
        self._run([self._token])

    def _run(self, ids: Sequence[int]) -> None:
        self._llama.eval(ids)
        self._token = self._llama.sample(temp=0.0)


# Called with the path of the model, the longest prompt plus new tokens, and the number of threads.
LOADERS: dict[str, Callable[[Path, int, int], Engine]] = {
    "slmflow": Genai,
    "builder": Genai,
    "transformers": Transformers,
    "llama_cpp": LlamaCpp,
}


def missing_modules(engine: str) -> list[str]:
    """Return the required modules of an engine that are not installed."""
    required = ("llama_cpp", "gguf") if engine == "llama_cpp" else ()
    return [name for name in required if find_spec(name) is None]
