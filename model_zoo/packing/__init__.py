"""Packed checkpoints: one safetensors file per model, as small as its information; the model's claimed size is that of the file."""
