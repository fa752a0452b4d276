"""Adversarial training on image arrays; training itself needs only torch and numpy."""
