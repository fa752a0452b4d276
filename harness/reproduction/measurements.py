"""Measurements of cells: what was measured of the model behind a cell, at which scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reproduction.settings import Settings
from harness.statistics import Proportion

if TYPE_CHECKING:
    import pandas as pd

    from harness.runner.store import Store

PAPER, SMALL = "paper", "small"
SCALES = (PAPER, SMALL)
# The measure that is no attack.
CLEAN = "clean"
# How the mark of a model begins whose mask leaves a layer or a class without weights: it is printed, and left out of every test.
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


def stored(store: Store) -> Measurements:
    """Return what a store has measured: at paper scale, that of registered models whose recipe is that of the cell.

    Outcomes are read when a cell asks for them first.
    """
    from harness.reproduction.registered import Registered

    registered = Registered(store)

    def measurement(settings: Settings, measure: str, scale: str) -> Measurement | None:
        return registered.measurement(settings, measure) if scale == PAPER else None

    return measurement
