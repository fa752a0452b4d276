"""The Pareto front of bytes and accuracy."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Positions of the points that no smaller (or equal) one beats, from small to large: fewer bytes and more accuracy are better."""
    order = sorted(range(len(sizes)), key=lambda row: (sizes[row], -accuracies[row]))
    front: list[int] = []
    for row in order:
        if not front or accuracies[row] > accuracies[front[-1]]:
            front.append(row)
    return front
