"""A bundle made from a checkpoint: ONNX graphs, their precision, engines, and the proof that they agree."""
