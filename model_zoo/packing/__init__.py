"""Packed checkpoints: one safetensors file per model, as small as its information; its size is the claim about size."""
