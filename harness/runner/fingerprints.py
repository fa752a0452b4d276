"""Fingerprints of user networks, stored with their outcomes; another network of the same identity is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from harness.runner.plan import Unit
from harness.runner.store import Store
from model_zoo.errors import RefusedError
from model_zoo.fingerprint import Fingerprint, differs, fingerprint
from model_zoo.references import UserReference, parse
from model_zoo.user_model import UserModel


def fingerprint_of(user_model: UserModel, model: nn.Module) -> Fingerprint:
    """Return the fingerprint of a user network that was opened as `model`."""
    return fingerprint(model, user_model.size, user_model.channels)


def check_fingerprint(identity: Mapping[str, Any], measured: Fingerprint, store: Store) -> None:
    """Check that the store has no outcomes of another network under the same identity.

    Parameters
    ----------
    identity : mapping
        Identity of any unit of the network.
    measured : Fingerprint
        Fingerprint of the network.

    Raises
    ------
    RefusedError
        If the store has such outcomes; the message names the stored model.
    """
    for manifest in store.manifests():
        stored = manifest.fingerprint
        if stored is not None and manifest.identity["model"] == identity["model"] and differs(measured, stored):
            raise RefusedError(
                f"model refused: {store.root} has outcomes of {manifest.labels.model}, which has the same code and weights but other "
                "logits or gradients (does it depend on a file, an environment variable, or a version?): use another --store"
            )


def check_fingerprints(units: Iterable[Unit], store: Store) -> None:
    """Check each user network among the units; see `check_fingerprint`."""
    for text, unit in {unit.model: unit for unit in units}.items():
        reference = parse(text)
        if isinstance(reference, UserReference):
            check_fingerprint(unit.identity, fingerprint_of(*reference.open()), store)
