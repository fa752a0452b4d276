"""Convolution layers whose weights are binary: pruned random signs, and BinaryConnect."""
