"""Pruning rules: how many weights each layer keeps, which ones, and when."""
