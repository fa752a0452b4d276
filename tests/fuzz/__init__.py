"""Fuzzing of everything that the programs read; `python -m tests.fuzz` runs it (docs/robust-input.md)."""
