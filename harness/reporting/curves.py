"""The figure of one model's training curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.reporting.style import INK, SETTINGS, new_figure, save
from model_zoo.errors import DamagedFileError

LOSS = "train_loss"
# Column, name and style: colours that colour-blind readers can distinguish, and shapes and dashes for grey.
ACCURACIES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "hold_out_clean_accuracy",
        "held-out images, clean",
        {"color": "#0072B2", "marker": "o", "markerfacecolor": "white", "linestyle": "--"},
    ),
    ("hold_out_pgd_accuracy", "held-out images, PGD", {"color": "#D55E00", "marker": "o", "linestyle": "-"}),
    ("train_robust_accuracy", "training images, attack of the training", {"color": "#009E73", "marker": "^", "linestyle": ":"}),
]
# Drawn only if the run was asked to evaluate test images.
TEST_ACCURACIES: list[tuple[str, str, dict[str, Any]]] = [
    ("test_clean_accuracy", "test images, clean", {"color": "#56B4E9", "marker": "s", "markerfacecolor": "white", "linestyle": "--"}),
    ("test_pgd_accuracy", "test images, PGD", {"color": "#CC79A7", "marker": "s", "linestyle": "-"}),
]
# With more epochs than this, the marks would touch.
MARKED = 40


def draw(csv_path: Path, png_path: Path) -> None:
    """Draw the training curve in `csv_path`, written by `harness train`, into `png_path` by atomic rename; the bytes are reproducible.

    Raises
    ------
    DamagedFileError
        If the file is not a training curve.
    """
    save(curve_figure(read(csv_path), csv_path.stem), png_path.with_name(png_path.name.removesuffix(".png")), ("png",))


def read(path: Path) -> pd.DataFrame:
    """Return the curve in a file: one row per epoch, accuracies as fractions.

    Raises
    ------
    DamagedFileError
        If the file is not a training curve.
    """
    needed = ["epoch", LOSS, *(column for column, _, _ in ACCURACIES)]
    try:
        curve = pd.read_csv(path)
        missing = [column for column in needed if column not in curve]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        if curve.empty:
            raise ValueError("no epoch")
        test_columns = [column for column, _, _ in TEST_ACCURACIES if column in curve]
        return curve.astype(dict.fromkeys([*needed, *test_columns], float))
    except (OSError, ValueError) as error:
        raise DamagedFileError(path, "a training curve", str(error)) from None


def curve_figure(curve: pd.DataFrame, title: str) -> Figure:
    """Return a figure of loss and accuracies (per cent) against the epoch, in two panels; accuracies without values are not drawn."""
    drawn_accuracies = [*ACCURACIES, *(accuracy for accuracy in TEST_ACCURACIES if accuracy[0] in curve)]
    figure, placeholder = new_figure(7.2, 3.3, "Training curve", title)
    placeholder.remove()
    mark_size = 5.0 if len(curve) <= MARKED else 0.0
    with mpl.rc_context(SETTINGS):
        loss, accuracy = figure.subplots(1, 2)
        loss.plot(curve["epoch"], curve[LOSS], color=INK, marker="s", markersize=mark_size, linewidth=1.5)
        loss.set_ylabel("training loss")
        for column, name, look in drawn_accuracies:
            if curve[column].notna().any():
                accuracy.plot(curve["epoch"], 100 * curve[column], markersize=mark_size, linewidth=1.5, label=name, **look)
        accuracy.set_ylabel("accuracy, per cent")
        accuracy.set_ylim(0, max(10.0, 110 * float(curve[[column for column, _, _ in drawn_accuracies]].max().max())))
        for axes in (loss, accuracy):
            _epoch_axis(axes)
        figure.legend(
            *accuracy.get_legend_handles_labels(), ncols=3, fontsize=7.8, frameon=False, loc="outside lower center", handlelength=3.0
        )
    return figure


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
