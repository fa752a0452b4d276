"""The fifteen common corruptions of CIFAR-10-C, by name: changes of an image that no attacker chose (docs/corruptions.md).

A new corruption is one more entry in the `CORRUPTIONS` of a module of this package; plug-ins add theirs, see `model_zoo.plugins`.

D. Hendrycks and T. Dietterich, Benchmarking neural network robustness to common corruptions and perturbations, ICLR 2019,
arXiv 1903.12261. The constants are those of CIFAR-10-C, from `ImageNet-C/create_c/make_cifar_c.py` of github.com/hendrycks/robustness at
commit ca36008; the constants of ImageNet-C are others.
"""

from __future__ import annotations

from harness.corruptions.common import Corruption, check_images, corrupt
from harness.plugins import CORRUPTIONS

__all__ = ["Corruption", "check_images", "corrupt", "get", "names"]


def names() -> list[str]:
    """Return the names of all corruptions, sorted."""
    return CORRUPTIONS.names()


def get(name: str) -> Corruption:
    """Return the corruption called `name`; raises an UnknownNameError if there is none."""
    return CORRUPTIONS.get(name)
