"""Report about a set of outcomes: all tables and figures, with the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from harness.evaluation.counts import GROUP
from harness.reporting import corruptions, figures, renderers, tables
from harness.reporting.ablations import ablations
from harness.reporting.components import components
from harness.reporting.frames import CELLS, diagnostics, summary
from harness.reporting.literature import literature
from harness.reporting.minimum_norm import minimum_norm
from harness.reporting.style import KINDS as FIGURE_FORMATS
from harness.reporting.style import save
from harness.reporting.tables import Table
from model_zoo.files import file_name, place
from model_zoo.publications import published
from model_zoo.threat import CORRUPTED

# Files of a report: tables as Markdown, CSV and LaTeX, figures as PNG, SVG and PDF.
FORMATS = ("md", "csv", "tex", "png", "svg", "pdf")
DEFAULT_FORMATS = ("md", "csv", "png")
NO_SUMMARY = pd.DataFrame(columns=[*GROUP, "model", CELLS])


@dataclass(frozen=True)
class Report:
    """Files written about a set of outcomes.

    Attributes
    ----------
    outcomes : pandas.DataFrame
        The outcomes that the report is about.
    frames : mapping of str to pandas.DataFrame
        What the tables show, by the tables' names.
    tables : mapping of str to list of Table
        The laid out tables, one per threat model, by the tables' names.
    titles : mapping of str to str
        Titles of tables and figures, by the stem of their files, the main table and the main figure first.
    paths : list of Path
        Every file, in the order of `titles`.
    """

    outcomes: pd.DataFrame
    frames: Mapping[str, pd.DataFrame]
    tables: Mapping[str, list[Table]]
    titles: Mapping[str, str]
    paths: list[Path]

    @property
    def main_table(self) -> str:
        """Name of the first table, which is the summary if models were attacked."""
        return "summary" if "summary" in self.frames else next(iter(self.frames))


def build(
    outcomes: pd.DataFrame,
    models: pd.DataFrame,
    folder: Path,
    expected: pd.DataFrame | None = None,
    invalid: Sequence[str] = (),
    diagnosed: pd.DataFrame | None = None,
    references: Mapping[str, str] | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    only: Sequence[str] | None = None,
    fewest_models: int = figures.FEWEST_MODELS,
) -> Report:
    """Write all tables and figures about `outcomes` into `folder`; the same arguments give the same bytes.

    Tables that compare with the literature are written if a model of the outcomes is in them.

    Parameters
    ----------
    outcomes, models, expected
        As `harness.reporting.frames.summary` takes them.
    invalid : sequence of str
        One line per outcome that was declared invalid; written below the tables.
    diagnosed : pandas.DataFrame, optional
        From `harness.runner.diagnoses.diagnosed`.
    references : mapping, optional
        References of the models by their ids, for figures of the weights.
    formats : sequence of str
        Of `FORMATS`.
    only : sequence of str, optional
        Names of the tables to write; all by default.
    fewest_models : int
        Figures of fewer models are not drawn.
    """
    is_corrupted = outcomes["norm"] == CORRUPTED
    attacked, publications = outcomes[~is_corrupted], published()
    frame = NO_SUMMARY
    frames_by_kind: dict[str, pd.DataFrame] = {}
    if len(attacked):
        frame = summary(attacked, models, None if expected is None else expected[expected["norm"] != CORRUPTED], diagnosed)
        frames_by_kind = {"ablations": ablations(attacked, frame), "components": components(attacked, frame)}
        frames_by_kind["minimum-norm"] = minimum_norm(attacked, frame)
    corrupted_frame = corruptions.corrupted(outcomes[is_corrupted], models, expected)
    frames_by_kind |= {
        "summary": frame,
        "diagnostics": pd.DataFrame() if diagnosed is None else diagnostics(diagnosed),
        "corruptions": corrupted_frame,
        "published corruptions": corruptions.published(publications, corrupted_frame),
    }
    frames: dict[str, pd.DataFrame] = {}
    titles: dict[str, str] = {}
    laid_out: dict[str, list[Table]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    specs = sorted(map(tables.get, tables.names()), key=lambda spec: (spec.frame != "summary", spec.name))
    for spec in specs:
        is_literature = spec.frame == "literature"
        table_frame = _literature_frame(spec, frame, publications) if is_literature else frames_by_kind.get(spec.frame, NO_SUMMARY)
        if table_frame.empty or (only is not None and spec.name not in only):
            continue
        frames[spec.name], titles[spec.name] = renderers.numbers(table_frame), spec.title
        rendered = laid_out[spec.name] = tables.render(spec, table_frame)
        with_notes = _with_notes(rendered, [f"Invalid: {line}." for line in invalid])
        texts = {"md": renderers.markdown(with_notes), "csv": renderers.csv(table_frame), "tex": renderers.latex(with_notes)}
        for suffix in (suffix for suffix in texts if suffix in formats):
            path = folder / file_name(f"{spec.name}.{suffix}")
            place(path, texts[suffix].encode())
            written.append(path)
    for stem, figure in figures.draw_all(figures.Material(attacked, frame, references or {}, fewest_models, corrupted_frame)):
        titles[stem] = figure.get_suptitle().strip()
        written += save(figure, folder / stem, [suffix for suffix in formats if suffix in FIGURE_FORMATS])
    return Report(outcomes, frames, laid_out, titles, written)


def _with_notes(rendered: list[Table], notes: list[str]) -> list[Table]:
    """Return the tables with more notes below the last one."""
    return [*rendered[:-1], *(replace(table, notes=[*table.notes, *notes]) for table in rendered[-1:])]


def _literature_frame(spec: tables.TableSpec, summary: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that compares with the literature; empty if no model of the store is among them."""
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(summary, published, sections, spec.published, spec.attack)
    return frame if "measured" in frame else pd.DataFrame()
