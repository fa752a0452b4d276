"""Checkpoints that their authors publish with a direct link: one CSV file per format, and a function that finds files by path or name.

A link is a URL or `gdrive:ID`. `sha256` is empty if the authors publish none; the hash of the first download is then recorded. Names and
links were copied from the repositories, without downloading the files.
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
    """Row of a CSV file: name of the checkpoint, link, name of the downloaded file, sha256 (may be empty), and a note for the user."""

    name: str
    link: str
    file: str
    sha256: str
    note: str

    @property
    def url(self) -> str:
        """URL from which the file is downloaded."""
        return GDRIVE + self.link.removeprefix("gdrive:") if self.link.startswith("gdrive:") else self.link


def published_files(name: str) -> list[PublishedFile]:
    """Return the published files of the format `name`, in the order of its CSV file; empty if it has none with a direct link."""
    path = Path(__file__).parent / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [PublishedFile(**row) for row in csv.DictReader(file)]


def locate(adapter: Adapter, requested: str, folder: Path, report: Report = lambda done, total: None) -> tuple[Path, PublishedFile | None]:
    """Return the file at the path `requested`, or the published file of that name, downloaded into `folder` unless it is there already.

    The second result is the published file's row, None for a path. If several files are published under one name, `NAME#1` and `NAME#2`
    select one of them.

    Raises
    ------
    UnknownNameError
        If no published file has that name.
    UsageError
        If `requested` looks like a path and does not exist, the format has no published files, or the name is ambiguous (the message
        has the links).
    MissingDataError, DamagedFileError
        As `fetch_recorded` raises them.
    """
    if Path(requested).is_file():
        return Path(requested), None
    name, _, number = requested.partition("#")
    matches = [row for row in published_files(adapter.name) if row.name == name]
    if not matches:
        if Path(requested).suffix or "/" in requested or not published_files(adapter.name):
            raise UsageError(f"no file {requested}; {adapter.name} files are available from: {adapter.files}")
        names = {row.name for row in published_files(adapter.name)}
        raise UnknownNameError(
            f"file of the format {adapter.name}", requested, names, f"harness ls formats --json, or a path ({adapter.files})"
        )
    if number.isdigit() and 1 <= int(number) <= len(matches):
        matches = [matches[int(number) - 1]]
    if len(matches) > 1:
        choices = "; ".join(f"{name}#{index} is {row.link} ({row.note})" for index, row in enumerate(matches, start=1))
        raise UsageError(f"{name} names {len(matches)} files: {choices}")
    hint = f"Fetch it yourself and give its path ({adapter.files})."
    return fetch_recorded(matches[0].url, folder, matches[0].file, hint, matches[0].sha256 or None, report), matches[0]
