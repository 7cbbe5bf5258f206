"""Tracing the network to ONNX graphs and building engines from them comes here."""
