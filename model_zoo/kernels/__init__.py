"""Compiled CPU kernels for pruned networks, shared by the attack engines and by training.

Only `graph` and `statistics` can be imported without numba (extra `fast`); import the other modules inside the functions that use them.
"""
