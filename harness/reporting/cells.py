"""One value of a table as a typed cell, and its text in every kind of output; no renderer reads text back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from harness.evaluation.marks import MASKING, in_words, union
from harness.statistics import Proportion
from model_zoo.errors import printable

if TYPE_CHECKING:
    from rich.text import Text

# How a value is written; a "spread" stands for several accuracies.
Format = Literal["text", "integer", "count", "number", "percent", "share", "accuracy", "published", "difference", "p", "distance"]
Kind = Format | Literal["spread"]
# Mark after a robust accuracy of a model whose verdict is not ok.
VERDICTS = {"suspicious": "†", "masked": "‡", "undiagnosed": "?"}
# Mark after a number whose units carry a flag of `harness.evaluation.marks.MASKING`.
FLAGGED = "§"
# What replaces a missing value; "" for all other kinds.
UNKNOWN = dict.fromkeys(("text", "integer", "number", "percent", "share"), "–")
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "–": "--",
        "†": r"\dag{}",
        "‡": r"\ddag{}",
        "§": r"\S{}",
        "±": r"$\pm$",
        "−": "$-$",
        "∗": "$^{*}$",
        "∅": r"$\emptyset$",
        "\u00a0": "~",
        **{digit: rf"\textsuperscript{{{number}}}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        "<": "$<$",
        ">": "$>$",
        **{character: rf"\{character}" for character in "&%$#_{}"},
    }
)


# Characters that Markdown would not show literally; "_" within a word, "<" before a number and lonely brackets are harmless.
_MARKDOWN = re.compile(r"[\\`*|]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?])|\](?=[(\[:])|&(?=[A-Za-z#])")


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "−")


FORMATS: dict[Kind, Callable[[Any], str]] = {
    "text": str,
    "integer": "{:,}".format,
    "count": "{:,}".format,
    "number": "{:.4g}".format,
    "percent": lambda fraction: f"{100 * fraction:g}",
    "share": lambda fraction: f"{100 * fraction:.1f}",
    "accuracy": lambda fraction: f"{100 * fraction:.1f}",
    "published": lambda fraction: f"{100 * fraction:.2f}",
    "difference": _points,
    "spread": lambda fraction: f"sd {100 * fraction:.1f}",
    "distance": "{:.3g}".format,
    "p": lambda p: f"{p:.3f}" if p >= 0.0005 else "<0.001",
}
# How the ends of an interval are written, if not in per cent.
ENDS: dict[Kind, Callable[[Any], str]] = {kind: FORMATS[kind] for kind in ("difference", "distance")}


@dataclass(frozen=True)
class Cell:
    """One value of a table, made once from numbers.

    Attributes
    ----------
    kind : str
        Decides how the value is written.
    value : Any
        Text, a whole number, a number, a distance, or a fraction that is written in per cent; None if it is unknown. The value of a
        "spread" is the standard deviation.
    interval : tuple of float, optional
        Ends of the 95 % interval, as fractions; the smallest and largest value of a "spread".
    successes : int, optional
        Number of images behind an accuracy that are right.
    n, planned : int, optional
        Number of images behind the value, and how many were planned; the cell is partial if they differ.
    flags : tuple of str
        Marks of the units behind the value (`harness.evaluation.marks`).
    verdict : str
        Verdict on the model: "ok" or one of `VERDICTS`.
    suffix : str
        Further marks after the number, such as "¹" for a footnote.
    is_best : bool
        Whether the number is the best of its row or column; it is written in bold.
    is_small : bool
        Whether the number was measured at a smaller scale than those beside it; it is written in parentheses.
    """

    kind: Kind
    value: Any = None
    interval: tuple[float, float] | None = None
    successes: int | None = None
    n: int | None = None
    planned: int | None = None
    flags: tuple[str, ...] = ()
    verdict: str = "ok"
    suffix: str = ""
    is_best: bool = False
    is_small: bool = False

    @property
    def number(self) -> str:
        """The value as text, without interval and marks; "–" or "" if it is unknown."""
        return UNKNOWN.get(self.kind, "") if self.value is None else FORMATS[self.kind](self.value)

    @property
    def mark(self) -> str:
        """Marks that follow the number: that of the verdict, `FLAGGED`, and the suffix; "" if the value is unknown."""
        return "" if self.value is None else VERDICTS.get(self.verdict, "") + FLAGGED * bool(self.masking) + self.suffix

    @property
    def masking(self) -> tuple[str, ...]:
        """The flags that make robustness doubtful."""
        return tuple(flag for flag in self.flags if flag in MASKING)

    @property
    def brackets(self) -> str:
        """The interval as text: "[30.6, 86.3]"; "" if there is none."""
        if self.interval is None:
            return ""
        low, high = map(ENDS.get(self.kind, FORMATS["accuracy"]), self.interval)
        return f"[{low}, {high}]"

    @property
    def partial(self) -> str:
        """The note "partial 8/16"; "" if no image is missing."""
        return f"partial {self.n}/{self.planned}" if self.n is not None and self.planned is not None and self.n < self.planned else ""

    def __str__(self) -> str:
        """Return the cell in one line: "62.5‡ [30.6, 86.3] partial 8/16"."""
        return _line(self, str, "{}")


def value_cell(kind: Kind, value: Any) -> Cell:
    """Return a cell of a frame's plain value, with None for a missing one."""
    if value is None or pd.isna(value):
        return Cell(kind)
    return Cell(kind, str(value) if kind == "text" else int(value) if kind in ("integer", "count") else float(value))


def accuracy_cell(successes: int, n: int, planned: int | None = None, flags: tuple[str, ...] = (), verdict: str = "ok") -> Cell:
    """Return the cell of a proportion of images with its Wilson interval; its value is unknown if n is 0."""
    proportion = Proportion(successes, n)
    value, interval = (proportion.value, proportion.interval) if n else (None, None)
    return Cell("accuracy", value, interval, successes, n, n if planned is None else planned, flags, verdict)


def published_cell(fraction: Any, n: Any) -> Cell:
    """Return the cell of a published accuracy, with an interval if the number of images is known."""
    cell = value_cell("published", fraction)
    if cell.value is None or pd.isna(n):
        return cell
    return Cell("published", cell.value, Proportion(round(cell.value * int(n)), int(n)).interval, n=int(n))


def markdown(cell: Cell) -> str:
    """Return the cell for a pipe table."""
    return _line(cell, escape_markdown, "**{}**")


def latex(cell: Cell) -> str:
    """Return the cell for LaTeX."""
    return _line(cell, escape_latex, r"\textbf{{{}}}")


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: pipes, emphasis, code, links, entities and HTML are escaped."""
    return _MARKDOWN.sub(r"\\\g<0>", _printable(text))


def escape_latex(text: str) -> str:
    """Return a text with LaTeX's special characters escaped."""
    return _printable(text).translate(LATEX)


def _printable(text: str) -> str:
    return "\u00a0".join(map(printable, text.split("\u00a0")))


def terminal(cell: Cell) -> Text:
    """Return the cell for a narrow column of a terminal: the interval, in whole per cent, and the note are on lines below."""
    from rich.text import Text

    number, below = _printable(cell.number), ""
    if cell.kind == "spread" and cell.interval is not None:
        number, below = _range(cell, 1), cell.number
    elif cell.kind in ENDS and cell.interval is not None:
        below = " to ".join(map(ENDS[cell.kind], cell.interval))
    elif cell.interval is not None:
        below = _range(cell, 0)
    shown = Text.assemble((number, "bold" if cell.is_best else ""), cell.mark)
    if _in_parentheses(cell):
        shown = Text.assemble("(", shown, ")", style="italic")
    lines = [shown, Text(below, "dim"), *map(Text, cell.partial.split())]
    return Text("\n").join(line for line in lines if line)


@dataclass(frozen=True)
class PageCell:
    """A cell on a web page: `text`, `interval` and `note` are written; `sort` is the sort key, "" if the value is unknown.

    `ends` are the low end, the value and the high end of an accuracy in per cent, for pictures.
    """

    text: str
    interval: str
    note: str
    sort: str
    ends: tuple[float, float, float] | None


def page(cell: Cell) -> PageCell:
    """Return the cell for a web page."""
    sort = "" if cell.value is None else str(cell.value)
    ends = None
    if cell.kind == "accuracy" and cell.interval is not None:
        ends = (100 * cell.interval[0], 100 * cell.value, 100 * cell.interval[1])
    text = cell.number + cell.mark
    return PageCell(f"({text})" if _in_parentheses(cell) else text, cell.brackets, cell.partial, sort, ends)


def verdict_notes(cells: Iterable[Cell]) -> list[str]:
    """Return what the verdict marks of these cells mean, one line per mark."""
    used = {cell.verdict for cell in cells if cell.value is not None}
    return [f"{mark}: {verdict}." for verdict, mark in VERDICTS.items() if verdict in used]


def flag_notes(cells: Iterable[Cell]) -> list[str]:
    """Return what `FLAGGED` means in these cells: a line with their masking flags; no line if no cell has the mark."""
    flags = union(", ".join(cell.masking) for cell in cells if cell.value is not None)
    return [f"{FLAGGED}: {in_words(flags)} (flags {', '.join(flags)})."] if flags else []


def _line(cell: Cell, write: Callable[[str], str], bold: str) -> str:
    """Return the cell in one line; `write` escapes text, `bold` is a format."""
    if cell.kind == "spread" and cell.interval is not None:
        return write(f"{_range(cell, 1)}{cell.mark} ({cell.number})")
    number = bold.format(write(cell.number)) if cell.is_best else write(cell.number)
    text = " ".join(part for part in (number + write(cell.mark), write(cell.brackets), write(cell.partial)) if part)
    return f"({text})" if _in_parentheses(cell) else text


def _in_parentheses(cell: Cell) -> bool:
    return cell.is_small and cell.value is not None


def _range(cell: Cell, decimals: int) -> str:
    low, high = cell.interval or (0.0, 0.0)
    return f"{100 * low:.{decimals}f}–{100 * high:.{decimals}f}"
