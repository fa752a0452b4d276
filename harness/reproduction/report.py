"""The folder of reports about a paper: every table in files, and an index that contains them all, to be read from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.reporting import renderers
from harness.reporting.tables import Table
from harness.reproduction.cells import CellStore
from harness.reproduction.layout import counted
from harness.reproduction.made import Made, make
from harness.reproduction.measurements import PAPER, SMALL, Measurements
from harness.reproduction.specification import get, names
from model_zoo.errors import MissingDataError
from model_zoo.files import place

# Folder below the reports.
FOLDER = "paper"
SUFFIXES = ("md", "csv", "tex")
HEADER = """# The paper's tables and figures

Rebuilt by `harness report` from the published numbers of Liu, Zhao, Süsstrunk and Salzmann, *Robust Binary Models by Pruning
Randomly-initialized Networks* (NeurIPS 2022), and from what this project has measured. Rows and columns are the paper's; captions are
this project's.

- **Published** numbers are printed as the paper prints them. Where the paper contradicts itself, a footnote says so; no number is
  corrected.
- **Paper scale**: models trained with the paper's settings, in a separate line with a 95 % interval, and the difference to the
  published number, marked ∗ if it is significant (two-sided exact binomial test).
- **Small scale**: models that a CPU can train, in parentheses with a 95 % interval. These numbers are not comparable with the
  published ones; below each table, Kendall's tau-b shows whether they rank the cells alike, and each claim of the paper has a verdict.
- A dash is a cell that is not measured; an empty cell has no published number. `harness reproduce` shows how far each table is.
"""


def write(measurements: Measurements, folder: Path, formats: Sequence[str] = SUFFIXES, cells: CellStore | None = None) -> list[Path]:
    """Write every table into `folder` as CSV and LaTeX (those of `formats`), and an index of them; return the paths, the index first.

    With `cells`, the figures are drawn too, in the picture formats among `formats`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths, sections = [folder / "README.md"], []
    tables = [make(get(name), measurements) for name in names()]
    for made in tables:
        # The index contains every table in Markdown.
        files = write_table(made, folder, [suffix for suffix in formats if suffix != "md"])
        paths += files
        links = ", ".join(f"[{path.suffix[1:].upper()}]({path.name})" for path in files)
        sections.append(f"## Table {made.spec.number}: {made.spec.title}\n\n{_markdown(made.parts)}" + (f"\n{links}\n" if links else ""))
    if cells is not None:
        sections += [f"## Figure {name.rpartition('-')[2]}\n\n{text}" for name, text in _figures(cells, folder, formats)]
    place(paths[0], "\n".join([HEADER, _overview(tables), *sections]).encode())
    return paths


def _figures(cells: CellStore, folder: Path, formats: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Draw the figures; yield the name and the index's text of each, which says what is missing for one that cannot be drawn."""
    from harness.reporting.style import KINDS, save
    from harness.reproduction.figures import FIGURES

    kinds = [kind for kind in KINDS if kind in formats]
    for name, function in FIGURES.items():
        title = (function.__doc__ or "").splitlines()[0]
        try:
            figure = function(cells)
        except MissingDataError as error:
            yield name, f"{title} Not drawn: {error}.\n"
            continue
        for path in save(figure, folder / name, kinds)[:1]:
            yield name, f"![{title}]({path.name})\n\n{title}\n"


def write_table(made: Made, folder: Path, formats: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write one table into `folder`; return the paths."""
    texts = {"md": renderers.markdown(made.parts), "csv": renderers.csv(made.frame), "tex": renderers.latex(made.parts)}
    paths = [folder / f"{made.spec.name}.{suffix}" for suffix in SUFFIXES if suffix in formats]
    for path in paths:
        place(path, texts[path.suffix[1:]].encode())
    return paths


def _markdown(parts: Sequence[Table]) -> str:
    """Return tables as Markdown with their notes as lists."""
    return renderers.markdown([replace(part, notes=[f"- {note}" for note in part.notes]) for part in parts])


def _overview(tables: Sequence[Made]) -> str:
    lines = ["| table | | published | paper scale | small scale |", "| --- | --- | ---: | --- | --- |"]
    for made in tables:
        counts = ["computed", "", ""]
        if made.grid is not None:
            counts = [str(len(made.grid.cells)), counted(made.grid, PAPER), counted(made.grid, SMALL)]
        lines.append(f"| {made.spec.number} | {made.spec.title} | {' | '.join(counts)} |")
    return "\n".join(lines) + "\n"
