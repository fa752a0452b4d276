"""Identity of a unit as a hash: equal identities mean the same model, images, threat model, attack and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> str:
    """Return JSON with sorted keys and no spaces, so that equal mappings give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def unit_id(identity: Mapping[str, Any]) -> str:
    """Return the sha256 of the canonical JSON of an identity, in hex."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def unit_seed(unit: str) -> int:
    """Return the seed of a unit: the first eight bytes of its id, as an unsigned 64-bit integer."""
    return int(unit[:16], 16)


def model_sha256(model: Mapping[str, Any]) -> str:
    """Return the sha256 of the model's part of an identity (weights, architecture, gradients), which differs between models of one id."""
    return hashlib.sha256(canonical_json(model).encode()).hexdigest()
