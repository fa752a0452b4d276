"""Attacks of this project, and what they are made of."""
