"""Reports: all tables and figures about a set of outcomes, written as files whose bytes are the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.reporting import figures, tables
from harness.reporting.ablations import ablations
from harness.reporting.components import components
from harness.reporting.frames import summary
from harness.reporting.literature import literature
from harness.reporting.style import save
from model_zoo.files import place
from model_zoo.publications import published


@dataclass(frozen=True)
class Report:
    """Files and frames that `build` wrote about `outcomes`.

    `frames` contains the frame behind each table, by the table's name. The first Markdown file and the first PNG file of `paths` are the
    main ones.
    """

    outcomes: pd.DataFrame
    frames: Mapping[str, pd.DataFrame]
    paths: list[Path]


def build(
    outcomes: pd.DataFrame,
    models: pd.DataFrame,
    folder: Path,
    expected: pd.DataFrame | None = None,
    invalid: Sequence[str] = (),
    diagnosed: pd.DataFrame | None = None,
    found_by: Mapping[str, str] | None = None,
    kinds: Sequence[str] = ("png", "svg"),
) -> Report:
    """Write all tables (CSV, Markdown, LaTeX) and figures (of `kinds`: png, svg, pdf) of `outcomes` into `folder`.

    `outcomes`, `models` and `expected` are the parameters of `harness.reporting.frames.summary`. `invalid` has one line per outcome that
    was taken back, with the reason; the lines become notes below each table file. `diagnosed` is the frame of
    `harness.runner.diagnoses.diagnosed`. `found_by` maps model ids to the references that find the models, for figures of their weights. A
    table without rows is not written; a comparison with the literature is written only if it contains a model of the store.
    """
    frame = summary(outcomes, models, expected, diagnosed)
    made = {"summary": frame, "ablations": ablations(outcomes, frame), "components": components(outcomes, frame)}
    made["diagnostics"] = pd.DataFrame() if diagnosed is None else diagnosed.rename(columns={"id": "model"})
    literary = published()
    frames: dict[str, pd.DataFrame] = {}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for spec in sorted(map(tables.get, tables.names()), key=lambda spec: (spec.frame != "summary", spec.name)):
        its = _beside(spec, frame, literary) if spec.frame == "literature" else made[spec.frame]
        if its.empty:
            continue
        frames[spec.name] = its
        rendered = tables.render(spec, its)
        if rendered:
            rendered[-1].notes.extend(f"Invalid: {line}." for line in invalid)
        for suffix, text in (("md", tables.markdown(rendered)), ("tex", tables.latex(rendered)), ("csv", tables.csv(its))):
            path = folder / f"{spec.name}.{suffix}"
            place(path, text.encode())
            written.append(path)
    for stem, figure in figures.draw_all(figures.Material(outcomes, frame, found_by or {})):
        written += save(figure, folder / stem, kinds)
    return Report(outcomes, frames, written)


def _beside(spec: tables.TableSpec, summary: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that compares with the literature; empty if no model of the store is among them."""
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(summary, published, sections, spec.published, spec.attack)
    return frame if "measured" in frame else pd.DataFrame()
