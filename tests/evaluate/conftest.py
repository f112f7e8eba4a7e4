from tests.flavors import chat, experiment, home, onnx, pipeline, reference, weights
