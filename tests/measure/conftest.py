from tests.flavors import chat, experiment, onnx, pipeline, prompted, reference, weights
