"""Benchmark of compact networks: their adversarial robustness, and what they cost in bytes.

`load_model`, `evaluate` and `results` attack models and return frames. `models` and `footprint` list models and what they cost.
`compare` tests whether a model is more robust than others, and `diagnose` says whether its robustness is real. `report` writes tables and
figures, `reproduce` returns a table of the paper, and `train` trains a model from a recipe. `harness.datasets` and `harness.attacks` have
the images and the attacks by name.

>>> import harness
>>> model = harness.load_model("cifar10-rn8w32-pruned-binary-k20-p01")  # doctest: +SKIP
>>> harness.evaluate(model, attack="pgd", dataset="cifar10-sample", n=40)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.comparing import compare
    from harness.api.diagnosing import diagnose
    from harness.api.evaluating import FlagWarning, evaluate, load_model, results
    from harness.api.listing import footprint, models
    from harness.api.reporting import report
    from harness.api.reproducing import reproduce
    from harness.api.training import train

    __version__: str

# Module of each name, imported when it is used, so that the command line answers before torch and pandas are imported.
_MODULES = {
    "FlagWarning": "evaluating",
    "compare": "comparing",
    "diagnose": "diagnosing",
    "evaluate": "evaluating",
    "footprint": "listing",
    "load_model": "evaluating",
    "models": "listing",
    "report": "reporting",
    "reproduce": "reproducing",
    "results": "evaluating",
    "train": "training",
}
__all__ = [
    "FlagWarning",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "footprint",
    "load_model",
    "models",
    "report",
    "reproduce",
    "results",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("robust-binary-harness")
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"harness.api.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
