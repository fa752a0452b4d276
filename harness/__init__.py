"""Benchmark of compact networks: their adversarial robustness, and what they cost in bytes.

>>> import harness
>>> model = harness.load_model("cifar10-rn8w32-pruned-binary-k20-p01")  # doctest: +SKIP
>>> harness.evaluate(model, attack="pgd", dataset="cifar10-sample", n=40)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import evaluate, load_model, results

__all__ = ["evaluate", "load_model", "results"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the command line answers before torch and pandas are imported.
    if name in __all__:
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
