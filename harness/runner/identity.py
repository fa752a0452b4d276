"""What a unit is, as a hash: equal identities mean the same model, images, threat model, attack and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces; the same mapping gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def unit_id(identity: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of an identity, in hex."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def unit_seed(unit: str) -> int:
    """A unit's own seed: the first eight bytes of its identity, an unsigned 64-bit integer."""
    return int(unit[:16], 16)


def model_sha256(model: Mapping[str, Any]) -> str:
    """Hash of what an identity says of its model: weights, architecture, how it is differentiated; two models of one id differ in it."""
    return hashlib.sha256(canonical_json(model).encode()).hexdigest()
