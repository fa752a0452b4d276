"""Seeding of the global generators of torch, NumPy and Python for a block of code, with their states restored afterwards."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed the global generators inside the `with` block; restore them and the trace function on exit.

    Attack packages draw from the global generators and reseed them, and one of them switches off the trace function, on which coverage
    tools and debuggers depend. Both are restored even if the block raises.

    The generators' states are per process (the trace function is per thread), so two threads must not be inside at the same time.

    Parameters
    ----------
    seed : int
        Unsigned 64-bit. torch and Python take all of it (torch's CPU generator, a Mersenne twister, uses the low 32 bits); NumPy's
        global generator takes at most 32 bits and gets `seed % 2**32`.

    Raises
    ------
    ValueError
        If the seed is negative or needs more than 64 bits.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed must be an unsigned 64-bit integer, not {seed}")
    trace = sys.gettrace()
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    # An uninitialised CUDA generator has no state to lose, and initialising it takes a second and breaks forking.
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        if sys.gettrace() is not trace:
            sys.settrace(trace)


def image_generator(image: torch.Tensor, seed: int, what: bytes) -> torch.Generator:
    """Return a CPU generator that depends on `seed` (unsigned 64-bit), `what` and the pixels of one image, never on its batch mates."""
    pixels = image.cpu().contiguous().numpy().tobytes()
    digest = hashlib.sha256(seed.to_bytes(8, "little") + what + pixels).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
