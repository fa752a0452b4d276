"""Figures of a report. Each module of this package has a function `figures`, which yields its figures of the material, with file names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from harness.plugins import FIGURES
from harness.reporting.frames import attacks_of, full_headline, groups_of
from harness.reporting.names import images
from model_zoo.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Radii of one norm that are needed for a curve; fewer radii get one figure each.
CURVE_RADII = 3
# Fewer points than this are better read in a table.
FEWEST_MODELS = 5

Drawn = Iterator[tuple[str, "Figure"]]


@dataclass(frozen=True)
class Part:
    """Rows of a summary that make one figure.

    Attributes
    ----------
    dataset, norm : str
        The data set and norm of the rows.
    name : str
        Data set and threat model as part of a file's name.
    title : str
        Data set, threat model, number of images and attacks, for the line under a figure's title.
    rows : pandas.DataFrame
        The rows, without the columns that are empty in all of them.
    """

    dataset: str
    norm: str
    name: str
    title: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Material:
    """The input of all figures.

    Attributes
    ----------
    outcomes, summary : pandas.DataFrame
        The input and the result of `harness.reporting.frames.summary`.
    references : mapping
        Ids of models, each with its reference, for figures of the stored models themselves.
    fewest_models : int
        Threat models with fewer models than this have no figures.
    corrupted : pandas.DataFrame
        The result of `harness.reporting.corruptions.corrupted`.
    """

    outcomes: pd.DataFrame
    summary: pd.DataFrame
    references: Mapping[str, str] = field(default_factory=dict)
    fewest_models: int = 1
    corrupted: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def threat_models(self) -> list[Part]:
        """Threat models with a worst case and a model of known size, except the radii of a curve; the one with the most attacks first."""
        parts = []
        for (dataset, norm, radius), rows in sorted(groups_of(self.summary), key=lambda item: -len(attacks_of(item[1]))):
            if radius in self._radii.get((dataset, norm), ()) or not {"bytes", "worst"} <= set(rows) or not self._is_enough(rows):
                continue
            name = file_name(f"{dataset}_{norm.lower()}-{radius}")
            parts.append(Part(dataset, norm, name, _title(f"{dataset}, {norm} {radius}", rows), rows))
        return parts

    @cached_property
    def curves(self) -> list[Part]:
        """Parts with several radii of one norm, by data set and norm."""
        parts = []
        for (dataset, norm), radii in sorted(self._radii.items()):
            frame = self.summary
            is_in_group = (frame["dataset"] == dataset) & (frame["norm"] == norm) & frame["radius"].isin(radii)
            rows = frame[is_in_group].dropna(axis="columns", how="all")
            if "worst" in rows and self._is_enough(rows):
                parts.append(Part(dataset, norm, file_name(f"{dataset}_{norm.lower()}"), _title(f"{dataset}, {norm}", rows), rows))
        return parts

    def _is_enough(self, rows: pd.DataFrame) -> bool:
        return int(rows.dropna(subset=["worst"])["model"].nunique()) >= self.fewest_models

    @cached_property
    def _radii(self) -> dict[tuple[str, str], list[str]]:
        """Radii of a curve, by data set and norm: only radii with the same attacks, because other worst cases are not comparable."""
        radii_by_attacks: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        for (dataset, norm, radius), rows in groups_of(self.summary):
            radii_by_attacks.setdefault((dataset, norm, tuple(attacks_of(rows))), []).append(radius)
        curves: dict[tuple[str, str], list[str]] = {}
        for (dataset, norm, _), radii in radii_by_attacks.items():
            if len(radii) >= CURVE_RADII and len(radii) > len(curves.get((dataset, norm), ())):
                curves[dataset, norm] = radii
        return curves


def draw_all(material: Material) -> Drawn:
    """Yield every figure of every module of this package, in order of modules' names: the stem of its file, and the figure."""
    for _, figures in FIGURES.items():
        yield from figures(material)


def _title(threat: str, rows: pd.DataFrame) -> str:
    unfinished = rows["model"].nunique() - rows.dropna(subset=["worst"])["model"].nunique()
    note = f"; {unfinished} model{'s' * (unfinished > 1)} unfinished and not shown" if unfinished else ""
    return f"{threat}, {images(rows)}; {full_headline(str(rows['headline'].iloc[0]), attacks_of(rows))}{note}"
