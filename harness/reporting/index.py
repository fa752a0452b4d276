"""Index of a folder of reports: one Markdown page that leads from the main figure to every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.reporting.report import FORMATS, Report

HEADER = """# Results

Rebuilt from stored outcomes by `harness report`; every number has its 95 % Wilson interval and the number of images n. Robust accuracy
is the pointwise worst case over the attacks that a table names; images that a model gets wrong without an attack count as broken. Each
table has a CSV file with full precision.
"""


@dataclass(frozen=True)
class Section:
    """One report in the index: heading, one line about it, and the report, whose files are in `folder` below the index."""

    heading: str
    title: str
    folder: str
    report: Report


def index(sections: Sequence[Section], others: Mapping[str, str]) -> str:
    """Return the index in Markdown.

    Parameters
    ----------
    others : mapping of str to str
        Further files and what they are.
    """
    parts = [HEADER]
    for section in sections:
        parts.append(f"## {section.heading}\n\n{section.title[:1].upper()}{section.title[1:]}.\n")
        parts.append(_report(section))
    if others:
        parts.append("## Beside these\n\n" + "\n".join(f"- [{title}]({file})" for file, title in others.items()) + "\n")
    return "\n".join(parts)


def _report(section: Section) -> str:
    file_names = {path.name for path in section.report.paths}
    tables, figures = [], []
    for stem, title in section.report.titles.items():
        files = [f"{stem}.{suffix}" for suffix in FORMATS if f"{stem}.{suffix}" in file_names]
        if not files:
            continue
        other_links = "".join(f" ([{Path(file).suffix[1:].upper()}]({section.folder}/{file}))" for file in files[1:])
        line = f"- [{title}]({section.folder}/{files[0]}){other_links}"
        if stem in section.report.frames:
            tables.append(line)
        else:
            figures.append((line, f"![{title}]({section.folder}/{files[0]})"))
    picture = [figures[0][1], ""] if figures and not figures[0][1].endswith(".pdf)") else []
    return "\n".join([*picture, *tables, *(line for line, _ in figures)]) + "\n"
