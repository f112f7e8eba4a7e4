"""Models of its own: what other tests load writes bytecode into theirs, which `verify` names."""

from tests.flavors import chat, experiment, home, onnx, pipeline, weights
