"""The common style of all figures: colours that colour-blind readers can distinguish, shapes that survive grey, and reproducible files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation
from PIL import Image

from model_zoo.files import place

# Okabe and Ito's palette, with a shape per family for printing in grey.
FAMILIES: dict[str, tuple[str, str, str]] = {
    "pruned-binary": ("#D55E00", "o", "pruned binary (±1, random)"),
    "dense-binary": ("#0072B2", "s", "dense binary"),
    "dense": ("#009E73", "D", "dense float32"),
    "sparse": ("#CC79A7", "^", "sparse"),
    "sparse-binary": ("#E69F00", "v", "sparse binary"),
    "quantised": ("#56B4E9", "P", "quantised"),
}
OTHER = ("#666666", "X")
# Marks of attacks, in the order of a suite; no attack has the colour of the worst case.
ATTACKS = [("#0072B2", "s"), ("#009E73", "D"), ("#CC79A7", "^"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#999999", "X")]
WORST = "#D55E00"
INK, FAINT = "#222222", "#767676"
# Colours of the segments of a bar, alternately dark and light, so that borders are visible in grey.
SEGMENTS = ["#0072B2", "#9AD0F3", "#8C3B00", "#F5B041", "#00664B", "#7FD8BE", "#7B3294", "#E7B6D3", "#666666", "#C8C8C8"]
# Components of attacks have the same colour in all figures; other components are coloured by their position.
COMPONENTS = {
    name: SEGMENTS[index % len(SEGMENTS)]
    for index, name in enumerate(["pgd", "pgd-10x50", "cw-linf", "ce-rescaled", "margin", "apgd-ce", "apgd-t", "fab-t", "square"])
}

KINDS = ("png", "svg", "pdf")
DPI = 160
LEGEND_SIZE = 7.8

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
    # Titles and names are text, also those that contain "$".
    "text.parse_math": False,
    "svg.hashsalt": "robust-binary-harness",
    "svg.fonttype": "none",
    # Embed TrueType fonts, which every reader and publisher accepts, so that text can be searched.
    "pdf.fonttype": 42,
}
# Without these settings, files contain the time at which they were made.
METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def family_style(family: object) -> tuple[str, str, str]:
    """Return colour, marker and displayed name of a model family; a family without an entry in `FAMILIES` is grey."""
    return FAMILIES.get(str(family), (*OTHER, family if isinstance(family, str) else "not registered"))


def darker(colour: str) -> tuple[float, float, float]:
    """Return a darker shade of a colour, for small text that would be too pale on white in the palette's colour."""
    red, green, blue = to_rgb(colour)
    return 0.72 * red, 0.72 * green, 0.72 * blue


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2), from 0 (black) to 1 (white)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable_on(colour: str) -> str:
    """Return the text colour, dark or white, with more contrast on `colour`."""
    return "white" if luminance(colour) < 0.18 else INK


def new_figure(width: float, height: float, title: str, subtitle: str) -> tuple[Figure, Axes]:
    """Return a figure, in inches, with one axes, a title, and a fainter, wrapped subtitle; pyplot is not used."""
    lines = wrap(subtitle, 106)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height + 0.15 * (len(lines) - 1)), layout="constrained")
        axes = figure.add_subplot()
        # The blank lines reserve room for the subtitle, which has another font size.
        figure.suptitle(title + "\n" * len(lines), x=0.012, ha="left", fontsize=11.5, fontweight="bold", color=INK)
        look: dict[str, Any] = {"fontsize": 8.8, "color": FAINT, "va": "top", "linespacing": 1.15}
        figure.text(
            0.012, 1.0, "\n".join(lines), transform=figure.transFigure + ScaledTranslation(0, -20 / 72, figure.dpi_scale_trans), **look
        ).set_in_layout(False)
    return figure, axes


def space_apart(figure: Figure) -> None:
    """Add room between neighbouring axes, so that the last tick label of one does not touch the first of the next."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(wspace=0.07, hspace=0.07)


def legend_below(figure: Figure, handles: Sequence[Artist], spacing: float = 1.4, **look: Any) -> None:
    """Add a legend under the axes, in as many columns as the figure has room for; handles fill it column by column."""
    widths = [0.62 * LEGEND_SIZE * len(str(handle.get_label())) for handle in handles]
    room = 72 * figure.get_figwidth() - 10
    handle_width = LEGEND_SIZE * (look.get("handlelength", 2.0) + 0.5 + spacing)

    def width(columns: int) -> float:
        # Matplotlib puts one more entry into the first columns if the entries do not divide evenly.
        quotient, remainder = divmod(len(widths), columns)
        ends = [quotient * number + min(number, remainder) for number in range(columns + 1)]
        return sum(max(widths[start:end]) + handle_width for start, end in pairwise(ends))

    columns = next((number for number in range(len(widths), 1, -1) if width(number) <= room), 1)
    # Keep the number of lines, but make all lines about equally long.
    columns = -(-len(widths) // -(-len(widths) // columns))
    figure.legend(
        handles=handles,
        ncols=columns,
        columnspacing=spacing,
        handletextpad=0.5,
        fontsize=LEGEND_SIZE,
        frameon=False,
        loc="outside lower center",
        **look,
    )


def lay_out(figure: Figure) -> None:
    """Run a figure's layout engine once and then remove it, because every drawing would repeat the layout with the same result."""
    for text in figure.findobj(Text):
        # Some are made outside the settings, such as legends.
        text.set_parse_math(False)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure as one file per kind, `stem.png` and `stem.svg` by default, each by atomic rename, and return the paths.

    `kinds` may contain "png", "svg" and "pdf". The same figure gives the same bytes.
    """
    paths = []
    stem.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        lay_out(figure)
        for kind in kinds:
            buffer = io.BytesIO()
            if kind == "png":
                _draw_png(figure, buffer)
            else:
                figure.savefig(buffer, format=kind, metadata=METADATA[kind])
            # `with_suffix` would be wrong, because an id may contain dots.
            path = stem.with_name(f"{stem.name}.{kind}")
            place(path, buffer.getvalue())
            paths.append(path)
    return paths


def _draw_png(figure: Figure, buffer: io.BytesIO) -> None:
    """Write a figure as a PNG with a palette of 256 colours: a third of the bytes, and only shades at edges are lost."""
    previous_dpi = figure.dpi
    figure.dpi = DPI
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, format="PNG", dpi=(DPI, DPI))
    figure.dpi = previous_dpi
