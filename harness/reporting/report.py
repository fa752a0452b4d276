"""Everything that is written about a set of outcomes: tables and figures, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.reporting import figures, tables
from harness.reporting.ablations import ablations
from harness.reporting.components import components
from harness.reporting.frames import attacks_of, groups_of, summary
from harness.reporting.literature import literature
from harness.reporting.names import images
from harness.reporting.sparsity import accuracy_against_sparsity, series
from harness.reporting.style import save
from model_zoo.files import place
from model_zoo.publications import published

# So many radii of one norm make a curve; fewer have figures of their own.
CURVE_RADII = 3


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
) -> Report:
    """Write all tables (CSV, Markdown, LaTeX) and figures (PNG, SVG) of `outcomes` into `folder`.

    The parameters are those of `harness.reporting.frames.summary`; `invalid` says which outcomes were taken back, and why, and stands below
    the tables; `diagnosed` is what `harness.runner.diagnoses.diagnosed` gives. A table beside the literature is written if a model of the
    store is in it.
    """
    frame = summary(outcomes, models, expected)
    made = {"summary": frame, "ablations": ablations(outcomes, frame), "components": components(outcomes, frame)}
    found = pd.DataFrame(columns=["dataset"]) if diagnosed is None else diagnosed
    made["diagnostics"] = found.rename(columns={"id": "model"}).dropna(subset=["dataset"])
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
    return Report(outcomes, frames, written + _figures(frame, folder))


def _beside(spec: tables.TableSpec, summary: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(summary, published, sections, spec.published, spec.attack)
    return frame if "measured" in frame else pd.DataFrame()


def _figures(frame: pd.DataFrame, folder: Path) -> list[Path]:
    curves = _curves(frame)
    written = []
    # The threat model with the most attacks is the main one.
    for (dataset, norm, radius), part in sorted(groups_of(frame), key=lambda item: -len(attacks_of(item[1]))):
        if radius in curves.get((dataset, norm), ()) or not {"bytes", "worst"} <= set(part):
            continue
        title = _subtitle(f"{dataset}, {norm} {radius}", part)
        where = f"{dataset}_{norm.lower()}-{radius.replace('/', '-')}"
        written += save(figures.accuracy_against_bytes(part, title), folder / f"accuracy-bytes_{where}")
        if len(attacks_of(part)) > 1:
            written += save(figures.accuracy_by_attack(part, title), folder / f"accuracy-attacks_{where}")
        if len(series(part)):
            written += save(accuracy_against_sparsity(part, title), folder / f"accuracy-sparsity_{where}")
    for (dataset, norm), radii in sorted(curves.items()):
        mine = (frame["dataset"] == dataset) & (frame["norm"] == norm) & frame["radius"].isin(radii)
        part = frame[mine].dropna(axis="columns", how="all")
        if "worst" not in part:
            continue
        written += save(
            figures.epsilon_curve(part, _subtitle(f"{dataset}, {norm}", part)), folder / f"accuracy-radius_{dataset}_{norm.lower()}"
        )
    return written


def _curves(frame: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Radii of a curve, by data set and norm: only those that saw the same attacks, for their worst cases are of one kind."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (dataset, norm, radius), part in groups_of(frame):
        alike.setdefault((dataset, norm, tuple(attacks_of(part))), []).append(radius)
    curves: dict[tuple[str, str], list[str]] = {}
    for (dataset, norm, _), radii in alike.items():
        if len(radii) >= CURVE_RADII and len(radii) > len(curves.get((dataset, norm), ())):
            curves[dataset, norm] = radii
    return curves


def _subtitle(where: str, part: pd.DataFrame) -> str:
    unfinished = part["model"].nunique() - part.dropna(subset=["worst"])["model"].nunique()
    absent = f"; {unfinished} model{'s' * (unfinished > 1)} unfinished and not shown" if unfinished else ""
    return f"{where}, {images(part)}; worst case of {', '.join(attacks_of(part))}{absent}"
