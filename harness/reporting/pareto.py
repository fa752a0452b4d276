"""The Pareto front of bytes and accuracy."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Return the indices of the Pareto-optimal points (fewer bytes and higher accuracy are better), in order of increasing size.

    Of identical points only the first is returned.
    """
    order = sorted(range(len(sizes)), key=lambda row: (sizes[row], -accuracies[row]))
    front: list[int] = []
    for row in order:
        if not front or accuracies[row] > accuracies[front[-1]]:
            front.append(row)
    return front
