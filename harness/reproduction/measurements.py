"""Measurements of cells: what was measured of the model behind a cell, at which scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reproduction.settings import Settings
from harness.statistics import Proportion
from model_zoo.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from harness.reproduction.cells import CellStore
    from harness.runner.store import Store

PAPER, SMALL = "paper", "small"
SCALES = (PAPER, SMALL)
# The measure without an attack.
CLEAN = "clean"
# Beginning of the mark of a model whose mask leaves a layer or a class without weights; such models are left out of every test.
EMPTY = "empty"


@dataclass(frozen=True)
class Measurement:
    """Accuracy of one model, measured for one cell.

    Attributes
    ----------
    successes, n : int
        Number of images that the model gets right (under attack, if there is one), and number of images.
    scale : str
        "paper" or "small", see `harness.reproduction`.
    attack : str
        Name of the attack, "" for accuracy without one.
    planned : int, optional
        Number of images that were planned; the measurement is partial if there are fewer.
    flags : tuple of str
        Marks of the units behind the number (`harness.evaluation.marks`).
    marks : tuple of str
        Marks of the model, such as "empty layer" or "empty class".
    seed_values : tuple of float
        Accuracies, as fractions, of models that differ in their seed alone, this one first; () if there is one model.
    """

    successes: int
    n: int
    scale: str
    attack: str = ""
    planned: int | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    seed_values: tuple[float, ...] = ()

    @property
    def value(self) -> float:
        """The accuracy as a fraction; NaN if there are no images."""
        return Proportion(self.successes, self.n).value

    @property
    def values(self) -> tuple[float, ...]:
        """The accuracies of all seeds."""
        return self.seed_values or (self.value,)

    @property
    def is_empty(self) -> bool:
        """Whether the model's mask leaves a layer or a class without weights."""
        return any(mark.startswith(EMPTY) for mark in self.marks)


def measure(outcomes: pd.DataFrame, measure: str, scale: str, planned: int, marks: Sequence[str] = ()) -> Measurement:
    """Return the measurement of one model from its outcomes.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        Outcomes of one attack, one row per image (`harness.results`).
    measure : str
        "autoattack" counts the images that are robust to it, "clean" those that are right without an attack.
    scale : str
        "paper" or "small".
    planned : int
        Number of images that were planned.
    marks : sequence of str
        Marks of the model.
    """
    from harness.evaluation.marks import union

    if measure == CLEAN:
        right = outcomes["clean_prediction"] == outcomes["label"]
        return Measurement(int(right.sum()), len(right), scale, planned=planned, marks=tuple(marks))
    flags, attack = union(outcomes["flags"]), str(outcomes["attack"].iloc[0])
    return Measurement(int(outcomes["robust"].sum()), len(outcomes), scale, attack, planned, flags, tuple(marks))


# Called with settings, measure ("autoattack" or "clean") and scale; returns None for a cell that was not measured.
Measurements = Callable[[Settings, str, str], Measurement | None]


def stored(store: Store, data_dir: Path | None = None, scale: str | None = None) -> Measurements:
    """Return what a store has measured: of cells that were trained, and at paper scale of registered models with the recipe of the cell.

    Outcomes are read when a cell first needs them.

    Parameters
    ----------
    store : Store
        Outcomes of registered models, and in the folder `CELLS` the store of cells.
    data_dir : Path, optional
        Folder of the data that does not ship.
    scale : str, optional
        Name or path of a scale; one that is not in `SCALES` is shown in place of the small one.
    """
    from harness.reproduction.cells import CellStore
    from harness.reproduction.registered import Registered

    registered = Registered(store)
    small = SMALL if scale in (None, *SCALES) else str(scale)
    cells = {name: CellStore.open(store.root, source, data_dir) for name, source in ((PAPER, PAPER), (SMALL, small))}

    def measurement(settings: Settings, measure: str, scale: str) -> Measurement | None:
        measured = _with_seeds(cells[scale], settings, measure, scale)
        return registered.measurement(settings, measure) if measured is None and scale == PAPER else measured

    return measurement


def _with_seeds(cells: CellStore, settings: Settings, measured: str, scale: str) -> Measurement | None:
    """Return the measurement of a cell's model, with the accuracies of further seeds of it that have all outcomes."""
    first = _of_cell(cells, settings, measured, scale)
    if first is None:
        return None
    others = [_of_cell(cells, settings.model_copy(update={"seed": settings.seed + step}), measured, scale) for step in (1, 2)]
    values = [first.value, *(other.value for other in others if other is not None and other.n == first.n)]
    return replace(first, seed_values=tuple(values)) if len(values) > 1 else first


def _of_cell(cells: CellStore, settings: Settings, measured: str, scale: str) -> Measurement | None:
    try:
        outcomes, planned, marks = cells.outcomes(settings)
    except UserError:
        return None
    return None if outcomes is None else measure(outcomes, measured, scale, planned, marks)
