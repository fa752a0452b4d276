"""A few cases of every door; hypothesis chooses the random numbers and shrinks failing cases."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.frame import Door, doors, run_case

# Doors that need an optional package.
MARKS = {"onnx": pytest.mark.needs_onnx, "commands": pytest.mark.needs_onnx}


@pytest.mark.parametrize("door", [pytest.param(door, marks=MARKS.get(name, ()), id=name) for name, door in doors().items() if door.ci])
def test_door(door: Door) -> None:
    @settings(max_examples=door.ci, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        run_case(door, random)

    check()
