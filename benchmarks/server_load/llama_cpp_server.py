"""Serve a GGUF file with llama.cpp's own server.

PYTHON llama_cpp_server.py FILE STREAMS CONTEXT THREADS

Runs in an environment of its own with requirements-llama-cpp.txt, which has none of slmflow's
packages. STREAMS is the number of requests that are decoded together, each of CONTEXT tokens; all
else is llama.cpp's default. Writes its address to standard error, and serves until SIGTERM.
"""

import signal
import sys

import xllamacpp


def main() -> None:
    """Load the model and wait."""
    file, streams, context, threads = sys.argv[1], *map(int, sys.argv[2:])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.port = 0  # any free one
    parameters.n_parallel = streams
    parameters.n_ctx = streams * context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = xllamacpp.Server(parameters)
    print(f"serving {file} on {server.listening_address}", file=sys.stderr, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
