"""Everything that is written about a set of outcomes: tables and figures, the same bytes every time."""

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
    """What was written about `outcomes`.

    `frames` holds what the tables show, by their names; the first Markdown and the first PNG of `paths` are the main ones.
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

    The first parameters are those of `harness.reporting.frames.summary`; `invalid` says which outcomes were taken back, and why, and stands
    below the tables; `diagnosed` is what `harness.runner.diagnoses.diagnosed` gives; `found_by` says what finds the models, for figures of
    their weights. A table beside the literature is written if a model of the store is in it.
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
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(summary, published, sections, spec.published, spec.attack)
    return frame if "measured" in frame else pd.DataFrame()
