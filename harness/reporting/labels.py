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
FONT_SIZE = 7.8
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
    """
    figure = axes.get_figure(root=True)
    if figure is None or not anchors:
        return
    # All coordinates below are in points.
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    lay_out(figure)
    scale = POINT / figure.dpi
    axes_box = _scaled(axes.get_window_extent(renderer), scale)
    column_boxes = [_scaled(_box(axes, column), scale) for column in columns]
    blocked = [box.padded(5.0, 8.0) for box in column_boxes]
    soft_boxes = [_scaled(_box(axes, item), scale).padded(2.0) for item in soft]
    label_boxes: list[Bbox] = []
    leads: list[Lead] = []
    for index in sorted(range(len(anchors)), key=lambda item: (anchors[item], item)):
        x, y = axes.transData.transform(anchors[index]) * scale
        text, colour = texts[index]
        annotation = axes.annotate(text, anchors[index], (0, 0), textcoords="offset points", fontsize=FONT_SIZE, color=colour, zorder=6)
        annotation.set_in_layout(False)
        extent = _scaled(annotation.get_window_extent(renderer), scale)
        places = np.array(
            [(left, bottom, left + extent.width, bottom + extent.height) for left, bottom in _corners(column_boxes[index], x, y, extent)]
        )
        lines = [_lead((x, y), place, column_boxes[index]) for place in places]
        line_costs = CROSSED * _crossings(places, lines, label_boxes, leads)
        costs = _costs(places, (x, y), column_boxes[index], axes_box, blocked, soft_boxes, line_costs)
        # Sort by the first cost, then by the second; of equal places take the first.
        chosen = int(np.lexsort(costs[::-1])[0])
        best, line = Bbox.from_extents(*places[chosen]), lines[chosen]
        # The text's baseline was at the anchor when it was measured.
        annotation.set_position((best.x0 - extent.x0, best.y0 - extent.y0))
        if line:
            _draw_line(axes, anchors[index], (x, y), line)
            leads.append(line)
        label_boxes.append(best)
        blocked.append(Bbox.from_extents(best.x0 - APART[0], best.y0 - APART[1], best.x1 + APART[0], best.y1 + APART[1]))


def _corners(column: Bbox, x: float, y: float, extent: Bbox) -> list[tuple[float, float]]:
    """Return lower left corners to try: on both sides of the column at all heights, and above and below it."""
    sides = [side for gap in (GAP, 4 * GAP, 9 * GAP) for side in (x + gap, x - gap - extent.width)]
    lifts = [sign * lift for lift in range(0, 260, 3) for sign in ((1, -1) if lift else (1,))]
    ends = (column.y1 + GAP, column.y0 - GAP - extent.height, column.y1 + 3 * GAP)
    across = (x - extent.width / 2, x - GAP, x + GAP - extent.width)
    return [(side, y + lift - extent.height / 2) for lift in lifts for side in sides] + [
        (left, bottom) for bottom in ends for left in across
    ]


def _costs(
    places: np.ndarray,
    point: tuple[float, float],
    column: Bbox,
    axes_box: Bbox,
    blocked: list[Bbox],
    soft_boxes: list[Bbox],
    line_costs: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the area that each of the places [P, 4] covers, in square points, and how far each is from the preferred place."""
    width, height = places[0, 2] - places[0, 0], places[0, 3] - places[0, 1]
    covered = line_costs + _overlap(places, blocked) + width * height - _overlap(places, [axes_box])
    lift = np.abs((places[:, 1] + places[:, 3]) / 2 - point[1])
    distance = 2.0 * np.maximum(_distances(places, column) - GAP, 0.0) + 0.5 * lift
    is_left = (places[:, 0] < point[0]).astype(float)
    return covered.round(3), (distance + is_left + 0.1 * _overlap(places, soft_boxes)).round(3)


def _lead(point: tuple[float, float], place: np.ndarray, column: Bbox) -> Lead | None:
    """Return a line to the label from the nearest end of its column, or from the label's height if the column spans it; None if near."""
    if _distances(place[None], column)[0] <= NEAR:
        return None
    label_end = min(max(point[0], place[0]), place[2]), min(max(point[1], place[1]), place[3])
    return (point[0], min(max(label_end[1], column.y0), column.y1)), label_end


def _crossings(places: np.ndarray, lines: list[Lead | None], label_boxes: list[Bbox], leads: list[Lead]) -> np.ndarray:
    """Return, for each place, the number of labels that its line would cross plus the number of lines that the label would cover."""
    counts = np.zeros(len(places))
    with_line = [index for index, line in enumerate(lines) if line is not None]
    if with_line and label_boxes:
        counts[with_line] += _is_crossing(np.array([lines[index] for index in with_line]), _array(label_boxes)).sum(1)
    if leads:
        counts += _is_crossing(np.array(leads), places).sum(0)
    return counts


def _is_crossing(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether each line [L, 2 ends, 2] passes through each box [B, 4], bool [L, B]; the line is clipped along each axis in turn."""
    first, last = np.zeros((len(lines), len(boxes))), np.ones((len(lines), len(boxes)))
    for axis in (0, 1):
        start, step = lines[:, 0, axis, None], (lines[:, 1, axis] - lines[:, 0, axis])[:, None]
        low, high = boxes[None, :, axis] - start, boxes[None, :, axis + 2] - start
        is_parallel = step == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([low / step, high / step])
        first = np.maximum(first, np.where(is_parallel, np.where((low <= 0) & (high >= 0), 0.0, 2.0), ends.min(0)))
        last = np.minimum(last, np.where(is_parallel, 1.0, ends.max(0)))
    return first <= last


def _draw_line(axes: Axes, anchor: tuple[float, float], point: tuple[float, float], line: Lead) -> None:
    figure: Any = axes.get_figure(root=True)
    ends = [axes.transData + ScaledTranslation(x / POINT, y / POINT, figure.dpi_scale_trans) for x, y in _offsets(point, *line)]
    look: dict[str, Any] = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2}
    axes.annotate("", anchor, anchor, xycoords=ends[0], textcoords=ends[1], arrowprops=look, zorder=2).set_in_layout(False)


def _offsets(point: tuple[float, float], *ends: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x - point[0], y - point[1]) for x, y in ends]


def _box(axes: Axes, corners: Box) -> Bbox:
    (x0, y0), (x1, y1) = axes.transData.transform([(corners[0], corners[1]), (corners[2], corners[3])])
    return Bbox.from_extents(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _scaled(box: Bbox, scale: float) -> Bbox:
    return Bbox.from_extents(*(value * scale for value in box.extents))


def _array(boxes: Sequence[Bbox]) -> np.ndarray:
    return np.array([box.extents for box in boxes])


def _distances(places: np.ndarray, box: Bbox) -> np.ndarray:
    dx = np.maximum(np.maximum(places[:, 0] - box.x1, box.x0 - places[:, 2]), 0.0)
    dy = np.maximum(np.maximum(places[:, 1] - box.y1, box.y0 - places[:, 3]), 0.0)
    return np.hypot(dx, dy)


def _overlap(places: np.ndarray, boxes: Sequence[Bbox]) -> np.ndarray:
    """Return the area that each place [P, 4] shares with the boxes, summed over the boxes."""
    if not boxes:
        return np.zeros(len(places))
    extents = _array(boxes)
    widths = np.minimum(places[:, None, 2], extents[:, 2]) - np.maximum(places[:, None, 0], extents[:, 0])
    heights = np.minimum(places[:, None, 3], extents[:, 3]) - np.maximum(places[:, None, 1], extents[:, 1])
    return np.asarray((widths.clip(0) * heights.clip(0)).sum(1))
