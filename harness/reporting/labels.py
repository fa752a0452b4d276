"""Placement of labels at points, so that no label covers a point, an interval or another label; the same figure gives the same places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox, ScaledTranslation

from harness.reporting.style import FAINT, lay_out

Box = tuple[float, float, float, float]
Lead = tuple[tuple[float, float], tuple[float, float]]
Colour = str | tuple[float, float, float]

POINT = 72.0
# Distance between a label and its column; beyond the second distance, a line connects the two.
GAP, NEAR = 8.0, 16.0
# Cost of a line that crosses a label, as an equivalent covered area in square points.
CROSSED = 60.0
# Horizontal and vertical distance between two labels.
APART = (7.0, 2.5)


def place_labels(
    axes: Axes,
    texts: Sequence[tuple[str, Colour]],
    anchors: Sequence[tuple[float, float]],
    columns: Sequence[Box],
    soft: Sequence[Box] = (),
    size: float = 7.8,
) -> None:
    """Write each text next to its column (a point and its intervals), as near to its point as there is room.

    Limits, scales and decorations of the axes must be final, because the layout of the figure is fixed by this call. The search is greedy,
    from left to right. If no place is free, the one that covers least is taken.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The axes with the points.
    texts : sequence of (str, colour)
        The labels.
    anchors : sequence of (x, y)
        The labelled points, in data coordinates.
    columns : sequence of (x0, y0, x1, y1)
        The area drawn for each point, in data coordinates; no label may cover it. A margin for marks is added. The first columns belong to
        the anchors.
    soft : sequence of (x0, y0, x1, y1)
        Areas that a label should avoid, but may cover if all other places are farther away.
    size : float
        Font size in points.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not anchors:
        return
    # All coordinates below are in points.
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    lay_out(figure)
    scale = POINT / figure.dpi
    inside = _scaled(axes.get_window_extent(renderer), scale)
    own = [_scaled(_box(axes, column), scale) for column in columns]
    blocked = [box.padded(5.0, 8.0) for box in own]
    faint = [_scaled(_box(axes, item), scale).padded(2.0) for item in soft]
    written: list[Bbox] = []
    leads: list[Lead] = []
    for number in sorted(range(len(anchors)), key=lambda item: (anchors[item], item)):
        x, y = axes.transData.transform(anchors[number]) * scale
        text, colour = texts[number]
        note = axes.annotate(text, anchors[number], (0, 0), textcoords="offset points", fontsize=size, color=colour, zorder=6)
        note.set_in_layout(False)
        extent = _scaled(note.get_window_extent(renderer), scale)
        places = np.array([(left, low, left + extent.width, low + extent.height) for left, low in _corners(own[number], x, y, extent)])
        lines = [_lead((x, y), place, own[number]) for place in places]
        crossed = CROSSED * _crossings(places, lines, written, leads)
        costs = _costs(places, (x, y), own[number], inside, blocked, faint, crossed)
        # Sort by the first cost, then by the second; of equal places take the first.
        chosen = int(np.lexsort(costs[::-1])[0])
        best, line = Bbox.from_extents(*places[chosen]), lines[chosen]
        # The text's baseline was at the anchor when it was measured.
        note.set_position((best.x0 - extent.x0, best.y0 - extent.y0))
        if line:
            _draw(axes, anchors[number], (x, y), line)
            leads.append(line)
        written.append(best)
        blocked.append(Bbox.from_extents(best.x0 - APART[0], best.y0 - APART[1], best.x1 + APART[0], best.y1 + APART[1]))


def _corners(column: Bbox, x: float, y: float, extent: Bbox) -> list[tuple[float, float]]:
    """Return lower left corners to try: on both sides of the column at all heights, and above and below it."""
    sides = [side for gap in (GAP, 4 * GAP, 9 * GAP) for side in (x + gap, x - gap - extent.width)]
    lifts = [sign * lift for lift in range(0, 260, 3) for sign in ((1, -1) if lift else (1,))]
    ends = (column.y1 + GAP, column.y0 - GAP - extent.height, column.y1 + 3 * GAP)
    across = (x - extent.width / 2, x - GAP, x + GAP - extent.width)
    return [(side, y + lift - extent.height / 2) for lift in lifts for side in sides] + [(left, low) for low in ends for left in across]


def _costs(
    places: np.ndarray, point: tuple[float, float], column: Bbox, inside: Bbox, blocked: list[Bbox], faint: list[Bbox], crossed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the area that each of the places [P, 4] covers, in square points, and how far each is from the preferred place."""
    width, height = places[0, 2] - places[0, 0], places[0, 3] - places[0, 1]
    covered = crossed + _shared(places, blocked) + width * height - _shared(places, [inside])
    lift = np.abs((places[:, 1] + places[:, 3]) / 2 - point[1])
    away = 2.0 * np.maximum(_distances(places, column) - GAP, 0.0) + 0.5 * lift
    left = (places[:, 0] < point[0]).astype(float)
    return covered.round(3), (away + left + 0.1 * _shared(places, faint)).round(3)


def _lead(point: tuple[float, float], place: np.ndarray, column: Bbox) -> Lead | None:
    """Return a line to the label from the nearest end of its column, or from the label's height if the column spans it; None if near."""
    if _distances(place[None], column)[0] <= NEAR:
        return None
    near = min(max(point[0], place[0]), place[2]), min(max(point[1], place[1]), place[3])
    return (point[0], min(max(near[1], column.y0), column.y1)), near


def _crossings(places: np.ndarray, lines: list[Lead | None], written: list[Bbox], leads: list[Lead]) -> np.ndarray:
    """Return, for each place, the number of labels that its line would cross plus the number of lines that the label would cover."""
    found = np.zeros(len(places))
    drawn = [number for number, line in enumerate(lines) if line is not None]
    if drawn and written:
        found[drawn] += _through(np.array([lines[number] for number in drawn]), _array(written)).sum(1)
    if leads:
        found += _through(np.array(leads), places).sum(0)
    return found


def _through(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each line [L, 2 ends, 2] passes through each box [B, 4], bool [L, B]; the line is clipped along each axis in turn."""
    first, last = np.zeros((len(lines), len(boxes))), np.ones((len(lines), len(boxes)))
    for axis in (0, 1):
        start, step = lines[:, 0, axis, None], (lines[:, 1, axis] - lines[:, 0, axis])[:, None]
        low, high = boxes[None, :, axis] - start, boxes[None, :, axis + 2] - start
        flat = step == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([low / step, high / step])
        first = np.maximum(first, np.where(flat, np.where((low <= 0) & (high >= 0), 0.0, 2.0), ends.min(0)))
        last = np.minimum(last, np.where(flat, 1.0, ends.max(0)))
    return first <= last


def _draw(axes: Axes, anchor: tuple[float, float], point: tuple[float, float], line: Lead) -> None:
    root: Any = axes.get_figure(root=True)
    ends = [axes.transData + ScaledTranslation(x / POINT, y / POINT, root.dpi_scale_trans) for x, y in _from(point, *line)]
    look: dict[str, Any] = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
    axes.annotate("", anchor, anchor, xycoords=ends[0], textcoords=ends[1], arrowprops=look, zorder=2).set_in_layout(False)


def _from(point: tuple[float, float], *ends: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x - point[0], y - point[1]) for x, y in ends]


def _box(axes: Axes, item: Box) -> Bbox:
    (x0, y0), (x1, y1) = axes.transData.transform([(item[0], item[1]), (item[2], item[3])])
    return Bbox.from_extents(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _scaled(box: Bbox, scale: float) -> Bbox:
    return Bbox.from_extents(*(value * scale for value in box.extents))


def _array(boxes: Sequence[Bbox]) -> np.ndarray:
    return np.array([box.extents for box in boxes])


def _distances(places: np.ndarray, other: Bbox) -> np.ndarray:
    across = np.maximum(np.maximum(places[:, 0] - other.x1, other.x0 - places[:, 2]), 0.0)
    along = np.maximum(np.maximum(places[:, 1] - other.y1, other.y0 - places[:, 3]), 0.0)
    return np.hypot(across, along)


def _shared(places: np.ndarray, boxes: Sequence[Bbox]) -> np.ndarray:
    """Return the area that each place [P, 4] shares with the boxes, summed over the boxes."""
    if not boxes:
        return np.zeros(len(places))
    others = _array(boxes)
    across = np.minimum(places[:, None, 2], others[:, 2]) - np.maximum(places[:, None, 0], others[:, 0])
    along = np.minimum(places[:, None, 3], others[:, 3]) - np.maximum(places[:, None, 1], others[:, 1])
    return np.asarray((across.clip(0) * along.clip(0)).sum(1))
