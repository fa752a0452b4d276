"""Tests that the kernels compile for processors without AVX-512 or without float16 instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_numba

CODE = """
import numpy as np
from model_zoo.kernels.convolve import ADD, computes_float16, convolve
from model_zoo.kernels.taps import Shape, forward_taps

assert not computes_float16()
shape = Shape(3, 8, 8)
taps = forward_taps(np.ones((3, 3, 3, 3)), None, np.zeros(3), 1, 1, shape, shape, np.arange(3), ADD)
x, out = np.zeros(shape.stored, np.float32), np.zeros(shape.stored, np.float32)
x[:3, 1:-1, 1:-1] = 1.0
convolve(
    x.reshape(-1), out.reshape(-1), np.zeros(0, np.float32), np.zeros(0, np.uint16),
    taps.bias, taps.offsets, taps.weights, taps.starts, taps.channels, taps.shape, taps.at,
)
assert (out[:3, 2:-2, 2:-2] == 27.0).all() and (out[:3, 1, 1] == 12.0).all()
"""


@pytest.mark.parametrize("processor", ["haswell", "znver4"])
def test_kernels_compile_and_compute_without_float16(processor: str, tmp_path: Path) -> None:
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    if not features.get("avx2", False) or (processor == "znver4" and not features.get("avx512f", False)):
        pytest.skip(f"this processor does not run code for {processor}")
    disabled = ("avx512", "avx10", "amx") if processor == "haswell" else ("avx512fp16", "avx10", "amx")
    cpu_features = ",".join(
        f"{'+' if is_available and not name.startswith(disabled) else '-'}{name}" for name, is_available in features.items()
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": cpu_features, "NUMBA_CACHE_DIR": str(tmp_path)}
    root = str(Path(__file__).parents[3])
    process = subprocess.run([sys.executable, "-c", CODE], env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
