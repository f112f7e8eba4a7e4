from tests.flavors import chat, experiment, onnx, pipeline, reference, weights
