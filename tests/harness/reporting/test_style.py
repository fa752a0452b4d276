"""Tests that colours differ for colour-blind readers, that marker shapes differ for greyscale prints, and that legends fit."""

from itertools import combinations, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from harness.reporting.style import (
    ATTACKS,
    COMPONENTS,
    FAMILIES,
    SEGMENTS,
    SETTINGS,
    legend_below,
    luminance,
    new_figure,
    readable_on,
    save,
)

# Full dichromacy in linear RGB (G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A physiologically-based model for simulation of color
# vision deficiency, IEEE Transactions on Visualization and Computer Graphics 15, 2009, 1291-1298, table 1, severity 1.0).
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ @ np.ones(3)


def lab(colour: str, vision: str) -> np.ndarray:
    """Return the colour in CIE L*a*b* (D65) as seen with the given colour vision."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = (TO_XYZ @ (VISION[vision] @ linear).clip(0, 1)) / WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_family_colours_differ_for_every_type_of_colour_vision(vision: str) -> None:
    colours = {name: lab(colour, vision) for name, (colour, _, _) in FAMILIES.items()}
    closest = min(combinations(colours, 2), key=lambda pair: float(np.linalg.norm(colours[pair[0]] - colours[pair[1]])))
    assert np.linalg.norm(colours[closest[0]] - colours[closest[1]]) > 12, closest


def test_families_and_attacks_have_distinct_markers() -> None:
    assert len({marker for _, marker, _ in FAMILIES.values()}) == len(FAMILIES)
    assert len({marker for _, marker in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("vision", VISION)
def test_adjacent_segments_differ_in_lightness_for_every_type_of_colour_vision(vision: str) -> None:
    for first, second in pairwise(SEGMENTS):
        assert abs(lab(first, vision)[0] - lab(second, vision)[0]) > 20, (first, second)
    components = list(COMPONENTS.values())
    assert len(set(components)) == len(components)


def test_text_on_segments_has_sufficient_contrast() -> None:
    for colour in SEGMENTS:
        light, dark = sorted((luminance(colour), luminance(readable_on(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.0, colour
    assert (luminance("#000000"), luminance("#FFFFFF")) == (0.0, pytest.approx(1.0))


@pytest.mark.parametrize("labels", [["a"], ["ten letters"] * 9, ["a rather long name of a model with a remark (partial 40/1000)"] * 5])
def test_a_legend_fits_under_the_figure(labels: list[str]) -> None:
    figure, _ = new_figure(7.2, 3.0, "title", "subtitle")
    legend_below(figure, [Patch(label=label) for label in labels])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_a_saved_picture_has_the_requested_size_and_colours(tmp_path: Path) -> None:
    from PIL import Image

    figure, axes = new_figure(4.0, 3.0, "title", "subtitle")
    axes.axvspan(0, 1, color="#D55E00")
    (path,) = save(figure, tmp_path / "picture", ("png",))
    picture = Image.open(path)
    assert picture.size == (640, 480) and picture.mode == "P"
    counts = picture.convert("RGB").getcolors(640 * 480)
    assert counts is not None and (0xD5, 0x5E, 0x00) in {colour for _, colour in counts}


def test_dollars_and_backslashes_are_shown_as_text(tmp_path: Path) -> None:
    words = ["costs $5 or $6", "$x_1$ of \\frac", "$", "a label $\\alpha$", "a tick $10^2$", "a legend $y$"]
    figure, axes = new_figure(6.0, 3.0, *words[:2])
    with mpl.rc_context(SETTINGS):
        axes.set_xlabel(words[2])
        axes.set_ylabel(words[3])
    axes.set_xticks([0, 1], ["a", words[4]])
    legend_below(figure, [Patch(label=words[5])])
    (path,) = save(figure, tmp_path / "words", ("svg",))
    assert all(f">{text}</text>" in path.read_text() for text in words)
