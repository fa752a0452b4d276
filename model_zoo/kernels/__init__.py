"""Kernels for networks that keep few weights, shared by the engines of attacks and by training.

Only `graph` can be imported without numba (extra `fast`); import the others where they are needed.
"""
