"""Hooks of MkDocs: pages from outside docs/, and links that work in the repository and in the site alike."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# By their place in the site. Reports come with their pictures.
PAGES = {"index.md": "README.md"} | {name: name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")}
REPORTS = ("*.md", "*.png", "*.svg", "*.csv")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the repository's pages and its reports."""
    sources = {place: ROOT / name for place, name in PAGES.items()}
    for pattern in REPORTS:
        sources |= {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "reports").rglob(pattern) if "page" not in path.parts}
    for place, path in sources.items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return the page with links that lead from its place in the site; links to files that the site does not have become plain text."""
    source = Path(page.file.abs_src_path).resolve().relative_to(ROOT)
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        picture, label, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        place = _place(posixpath.normpath(posixpath.join(source.parent.as_posix(), target)))
        if files.get_file_from_path(place) is None:
            return label
        return f"{picture}[{label}]({posixpath.relpath(place, folder or '.')}{anchor or ''})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else _LINK.sub(replace, part) for part in parts)


def _place(path: str) -> str:
    """Return the place in the site of a file of the repository."""
    for place, name in PAGES.items():
        if path == name:
            return place
    return path.removeprefix("docs/")
