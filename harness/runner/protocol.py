"""Constants of protocol 1, under which all numbers are comparable. Changing one of them makes protocol 2."""

from __future__ import annotations

from harness import datasets
from harness.threats import NORMS
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

VERSION = 1

# Images per unit, in the data set's order; the last block may be shorter. Also the batch size of attacks, AutoAttack's default.
BLOCK = 250

# Draws of a model declared stochastic per query of an attack (AutoAttack's version for such models takes 20) and per judgement.
DRAWS = (20, 100)


def default_threat(norm: str, family: str) -> ThreatModel:
    """Return the protocol's threat model of a norm for a kind of data ("cifar10"); raise a UsageError if it fixes none."""
    kind = datasets.kinds().get(family)
    radius = NORMS[norm].default_radius if kind is None else kind.radii.get(norm, NORMS[norm].default_radius)
    if radius is None:
        raise UsageError(f"the protocol fixes no radius for data of family {family!r}: give one, for example --radius 8/255")
    return ThreatModel(norm, radius)
