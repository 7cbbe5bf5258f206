"""Measures enhanced images: full-reference metrics under named protocols, NIQE, brightness, published results.

Everything here takes (H, W, 3) RGB NumPy arrays, uint8 or float32 in [0, 1]; nothing needs to know the model.
"""
