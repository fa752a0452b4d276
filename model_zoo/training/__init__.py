"""Adversarial training from arrays: torch and numpy alone."""
