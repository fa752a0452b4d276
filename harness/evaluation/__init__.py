"""Evaluation of one unit (gates before the attack, a meter during it, a referee after it), and diagnostics of a model."""
