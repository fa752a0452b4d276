"""The standard version of AutoAttack in L1 (Croce and Hein, arXiv 2103.01208) from pyautoattack.

APGD works at three, two and one times the radius, one after the other; its cross-entropy form has more restarts than the targeted one.
"""

from __future__ import annotations

from typing import ClassVar

from harness.attacks.common import Adapter
from harness.attacks.packages import autoattack
from harness.attacks.parameters import Count


class Parameters(autoattack.Parameters):
    """Parameters that the package's version "standard" sets in L1; `apgd_t_restarts` and `apgd_t_targets` are of the targeted APGD."""

    apgd_t_restarts: Count
    apgd_t_targets: Count

    apgd_radii: ClassVar[int] = 3

    @property
    def targeted_restarts(self) -> int:
        """Restarts of the targeted APGD, per target."""
        return self.apgd_t_restarts

    @property
    def targeted_classes(self) -> int:
        """Number of target classes of the targeted APGD."""
        return self.apgd_t_targets


ADAPTER = Adapter(
    "autoattack-l1", version=1, parameters=Parameters, attack=autoattack.attack, package="pyautoattack", passes=autoattack.passes
)
