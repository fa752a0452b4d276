"""Regeneration of a paper's tables: published cells, the models behind them at a feasible scale, and their comparison.

A table is one file in `tables/`. It lays cells out and gives the `Settings` of the model behind each cell. A scale (`scales/`) turns
settings into a training recipe: `paper` keeps the paper's settings, `small` maps them to what two CPU cores can train.
"""
