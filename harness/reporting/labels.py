"""Where labels go beside points, so that none covers a point, an interval or another label; the same figure gives the same places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path
from matplotlib.transforms import Bbox, ScaledTranslation

from harness.reporting.style import FAINT

Box = tuple[float, float, float, float]
Lead = tuple[tuple[float, float], tuple[float, float]]
Colour = str | tuple[float, float, float]

POINT = 72.0
# Between a label and its column; beyond the second, a line says which column is meant.
GAP, NEAR = 8.0, 16.0
# What a line across a label costs, in square points of a covered label.
CROSSED = 60.0
# Between two labels, across and along.
APART = (7.0, 2.5)


def place_labels(
    axes: Axes,
    texts: Sequence[tuple[str, Colour]],
    anchors: Sequence[tuple[float, float]],
    columns: Sequence[Box],
    soft: Sequence[Box] = (),
    size: float = 7.8,
) -> None:
    """Write every text beside its column (a point and its intervals), as near to its point as there is room.

    Limits, scales and decorations of the axes have to be final. The search is greedy, from left to right. Where nothing is free, the place
    that covers least is taken.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where the points are.
    texts : sequence of (str, colour)
        The labels.
    anchors : sequence of (x, y)
        The labelled points, in data coordinates.
    columns : sequence of (x0, y0, x1, y1)
        All that is drawn for each point, which no label may cover; data coordinates, a margin for marks is added.
    soft : sequence of (x0, y0, x1, y1)
        What a label covers only where all else is farther away.
    size : float
        Font size in points.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not anchors:
        return
    # Everything below is in points.
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
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
        places = [Bbox.from_bounds(left, low, extent.width, extent.height) for left, low in _corners(own[number], x, y, extent)]
        lines = [_lead((x, y), place, own[number]) for place in places]
        costs = [
            _cost(place, (x, y), own[number], inside, blocked, faint, CROSSED * _crossings(place, line, written, leads))
            for place, line in zip(places, lines, strict=True)
        ]
        chosen = min(range(len(places)), key=costs.__getitem__)
        best, line = places[chosen], lines[chosen]
        # The text's baseline was at the anchor when it was measured.
        note.set_position((best.x0 - extent.x0, best.y0 - extent.y0))
        if line:
            _draw(axes, anchors[number], (x, y), line)
            leads.append(line)
        written.append(best)
        blocked.append(Bbox.from_extents(best.x0 - APART[0], best.y0 - APART[1], best.x1 + APART[0], best.y1 + APART[1]))


def _corners(column: Bbox, x: float, y: float, extent: Bbox) -> list[tuple[float, float]]:
    """Lower left corners to try: on both sides of the column at all heights, and above and below it."""
    sides = (x + GAP, x - GAP - extent.width, x + 4 * GAP, x - 4 * GAP - extent.width)
    lifts = [sign * lift for lift in range(0, 260, 3) for sign in ((1, -1) if lift else (1,))]
    ends = (column.y1 + GAP, column.y0 - GAP - extent.height, column.y1 + 3 * GAP)
    across = (x - extent.width / 2, x - GAP, x + GAP - extent.width)
    return [(side, y + lift - extent.height / 2) for lift in lifts for side in sides] + [(left, low) for low in ends for left in across]


def _cost(
    place: Bbox, point: tuple[float, float], column: Bbox, inside: Bbox, blocked: list[Bbox], faint: list[Bbox], crossed: float
) -> tuple[float, float]:
    covered = crossed + sum(_shared(place, other) for other in blocked) + place.width * place.height - _shared(place, inside)
    away = 2.0 * max(_distance(place, column) - GAP, 0.0) + 0.5 * abs((place.y0 + place.y1) / 2 - point[1])
    left = 1.0 if place.x0 < point[0] else 0.0
    return round(covered, 3), round(away + left + 0.1 * sum(_shared(place, other) for other in faint), 3)


def _lead(point: tuple[float, float], place: Bbox, column: Bbox) -> Lead | None:
    """A line to the label from the nearest end of its column, or from the height of the label where that is between; None to a near one."""
    if _distance(place, column) <= NEAR:
        return None
    near = min(max(point[0], place.x0), place.x1), min(max(point[1], place.y0), place.y1)
    return (point[0], min(max(near[1], column.y0), column.y1)), near


def _crossings(place: Bbox, line: Lead | None, written: list[Bbox], leads: list[Lead]) -> int:
    """How many labels the label's own line would cross, and how many lines the label would cover."""
    through = sum(Path(line).intersects_bbox(other, filled=False) for other in written) if line else 0
    return through + sum(Path(other).intersects_bbox(place, filled=False) for other in leads)


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


def _distance(one: Bbox, other: Bbox) -> float:
    across = max(one.x0 - other.x1, other.x0 - one.x1, 0.0)
    along = max(one.y0 - other.y1, other.y0 - one.y1, 0.0)
    return float((across**2 + along**2) ** 0.5)


def _shared(one: Bbox, other: Bbox) -> float:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    along = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(across * along) if across > 0 and along > 0 else 0.0
