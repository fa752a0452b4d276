"""Fuzzing of all inputs of the programs; run it with `python -m tests.fuzz` (docs/robust-input.md)."""
