"""From a checkpoint to a bundle: ONNX graphs, their precision, engines, and the proof that they agree."""
