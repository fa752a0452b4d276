"""One look for all figures: colours that colour-blind readers tell apart, shapes that survive grey, files that are the same every time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model_zoo.files import place

# Okabe and Ito's palette; a shape for each, for grey.
FAMILIES: dict[str, tuple[str, str, str]] = {
    "pruned-binary": ("#D55E00", "o", "pruned binary (±1, random)"),
    "dense-binary": ("#0072B2", "s", "dense binary"),
    "dense": ("#009E73", "D", "dense float32"),
    "sparse": ("#CC79A7", "^", "sparse"),
    "sparse-binary": ("#E69F00", "v", "sparse binary"),
    "quantised": ("#56B4E9", "P", "quantised"),
}
UNKNOWN = ("#666666", "X", "not registered")
INK, FAINT = "#222222", "#8A8A8A"

SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "svg.hashsalt": "robust-binary-harness",
    "svg.fonttype": "none",
}
# Without these two, files carry the time they were made.
METADATA: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def family_style(family: object) -> tuple[str, str, str]:
    """Colour, marker and name of a model family."""
    return FAMILIES.get(str(family), UNKNOWN)


def new_figure(width: float, height: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    """A figure of one axes, in inches, with a title and a fainter line under it; independent of pyplot."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=20)
        axes.text(0.0, 1.02, subtitle, transform=axes.transAxes, fontsize=8.8, color=FAINT, va="bottom")
    return figure, axes


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem.png` and `stem.svg`, each by atomic rename; the same figure gives the same bytes."""
    paths = []
    stem.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=160, metadata=METADATA[kind])
            path = stem.with_suffix(f".{kind}")
            place(path, buffer.getvalue())
            paths.append(path)
    return paths
