"""The tables of a paper from Python: published numbers, and what was measured for their cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def reproduce(table: str, *, store: str | Path = "results") -> pd.DataFrame:
    """Return a table of the paper as a long frame; nothing is trained or attacked.

    Parameters
    ----------
    table : str
        "table-1" or "liu2022-1", or the path of a TOML file.
    store : path
        Where outcomes are kept.

    Returns
    -------
    pandas.DataFrame
        One row per published cell, see `harness.reproduction.grid.long`; for a computed table, its numbers.

    Raises
    ------
    UserError
        If there is no such table, or its file is damaged.
    """
    from harness.reproduction.made import make
    from harness.reproduction.measurements import stored
    from harness.reproduction.specification import get
    from harness.runner.store import Store

    return make(get(table), stored(Store(Path(store)))).frame
