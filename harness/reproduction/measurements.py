"""Measurements of cells: what was measured of the model behind a cell, at which scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.reproduction.settings import Settings
from harness.statistics import Proportion

PAPER, SMALL = "paper", "small"
SCALES = (PAPER, SMALL)
# Mark of a model whose mask leaves a layer or a class without weights: it is printed, and left out of every test.
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
        Marks of the model: `EMPTY`.
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
        return EMPTY in self.marks


# Called with settings, measure ("autoattack" or "clean") and scale; returns None for a cell that was not measured.
Measurements = Callable[[Settings, str, str], Measurement | None]
