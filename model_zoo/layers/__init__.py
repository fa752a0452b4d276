"""Convolution layers with pruned, binary or factored weights, and the bias as a layer."""
