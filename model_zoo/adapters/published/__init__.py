"""Checkpoints that their authors publish, with a direct link: a CSV file for each format, and files found by path or by name.

A link is a URL, or `gdrive:ID`. `sha256` is empty where its authors publish none: then that of the first download is recorded. The names
and links were read in the repositories; nothing here was downloaded when they were written down.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from model_zoo.adapters import Adapter
from model_zoo.download import Report, fetch_recorded
from model_zoo.errors import UnknownNameError, UsageError

GDRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="


@dataclass(frozen=True)
class PublishedFile:
    """One row: what it is called, where it is, and what its user should know."""

    name: str
    link: str
    file: str
    sha256: str
    note: str

    @property
    def url(self) -> str:
        """The link as something to download."""
        return GDRIVE + self.link.removeprefix("gdrive:") if self.link.startswith("gdrive:") else self.link


def published_files(name: str) -> list[PublishedFile]:
    """The published files of a format, in the order of its list; empty where it has none with a direct link."""
    path = Path(__file__).parent / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [PublishedFile(**row) for row in csv.DictReader(file)]


def locate(adapter: Adapter, asked: str, folder: Path, report: Report = lambda done, total: None) -> tuple[Path, PublishedFile | None]:
    """The file at the path `asked`, or the published one of that name, downloaded into `folder` once.

    Where two files are published under one name, `NAME#1` and `NAME#2` tell them apart.

    Raises
    ------
    UnknownNameError
        If there is neither.
    UsageError
        If the name is published more than once, with the links.
    MissingDataError, DamagedFileError
        As `fetch_recorded` does.
    """
    if Path(asked).is_file():
        return Path(asked), None
    name, _, number = asked.partition("#")
    found = [row for row in published_files(adapter.name) if row.name == name]
    if not found:
        if Path(asked).suffix or "/" in asked or not published_files(adapter.name):
            raise UsageError(f"no file {asked}; {adapter.name} files are to be had from: {adapter.files}")
        known = {row.name for row in published_files(adapter.name)}
        raise UnknownNameError(
            f"file of the format {adapter.name}", asked, known, f"harness ls formats --json, or a path ({adapter.files})"
        )
    if number.isdigit() and 1 <= int(number) <= len(found):
        found = [found[int(number) - 1]]
    if len(found) > 1:
        choices = "; ".join(f"{name}#{place} is {row.link} ({row.note})" for place, row in enumerate(found, start=1))
        raise UsageError(f"{name} names {len(found)} files: {choices}")
    instead = f"Fetch it yourself and give its path ({adapter.files})."
    return fetch_recorded(found[0].url, folder, found[0].file, instead, found[0].sha256 or None, report), found[0]
