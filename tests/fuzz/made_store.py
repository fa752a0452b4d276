"""A small valid store of artificial outcomes, as files and packed, which the door `stores` modifies."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

from harness.evaluation.diagnostics import VERSION
from harness.evaluation.outcomes import SCHEMA
from harness.runner.documents import Claim, DiagnosisDocument, DiagnosisLabels, Failure, Labels, Manifest
from harness.runner.identity import unit_id
from harness.runner.packing import pack
from harness.runner.store import Store, Stored

IMAGES = 6
MODEL = {"weights": "0" * 64, "architecture": {"name": "made-up", "classes": 10}, "affine": True, "backward": "exact"}


@dataclass(frozen=True)
class Unit:
    """A unit of the pristine stores."""

    manifest: Manifest
    table: pa.Table


def example_identity(seed: int) -> dict[str, Any]:
    """Return the identity of a unit of a network that does not exist."""
    parameters = {"steps": 2, "step": "1/20", "batch_size": 250}
    return {
        "protocol": 1,
        "model": MODEL,
        "engine": "dense",
        "data": {"dataset": "cifar10-sample", "block": "1" * 64},
        "threat": {"norm": "Linf", "radius": "8/255"},
        "attack": {"name": "pgd", "adapter": "torchattacks-pgd", "norm": "Linf", "parameters": parameters},
        "attack_batch": 250,
        "base_seed": seed,
    }


def example_labels(unit: str, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the labels that agree with an identity."""
    return {
        "unit": unit,
        "protocol": identity["protocol"],
        "model": "made-up",
        "family": None,
        "dataset": identity["data"]["dataset"],
        "norm": identity["threat"]["norm"],
        "radius": identity["threat"]["radius"],
        "attack": identity["attack"]["name"],
        "seed": identity["base_seed"],
    }


def example_table(seed: int) -> pa.Table:
    """Return valid outcomes of `IMAGES` images."""
    robust = [bool((number + seed) % 2) for number in range(IMAGES)]
    columns = {name: list(range(IMAGES)) for name in ("image", "label", "clean_prediction", "adversarial_prediction", "forwards")}
    columns |= {"robust": robust, "robust_to_seen": robust, "broken_by": [None if good else "pgd" for good in robust]}
    columns |= {"linf": [0.03] * IMAGES, "l2": [0.5] * IMAGES, "backwards": [2] * IMAGES}
    return pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)


@cache
def pristine_stores() -> tuple[Path, Path, dict[str, Unit]]:
    """Return the folders of a store of files and of the same store packed, and the units of both."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-stores"))
    store, units = Store(root / "working"), {}
    for seed in range(2):
        identity = example_identity(seed)
        name, table = unit_id(identity), example_table(seed)
        labels = Labels(**example_labels(name, identity))
        manifest = Manifest(
            unit=name, labels=labels, identity=identity, images=IMAGES, outcomes_sha256="", at_fault=False, boundary_flips=0, seconds=1.5
        )
        pictures = save({"image": np.arange(2), "perturbation": np.zeros((2, 3, 4, 4), np.float16)})
        store.adopt(Stored(manifest, table), pictures)
        units[name] = Unit(store.manifest(name), table)
    marks = "1" * IMAGES
    diagnostics = {
        "predictions": " ".join(map(str, range(IMAGES))),
        "median_gap": 1.5,
        "saturated": 0.0,
        "no_gradient": {"ce": marks},
        "robust": {"ce": marks, "margin": marks},
        "rising": marks,
        "sweep": {"8/255": marks, "1/2": marks},
        "sources": [],
    }
    identity = {key: value for key, value in example_identity(0).items() if key in ("protocol", "model", "data", "threat")} | {
        "diagnostics": VERSION
    }
    labels = DiagnosisLabels(model="made-up", dataset="cifar10-sample", threat="Linf 8/255")
    store.write_diagnosis(unit_id(identity), DiagnosisDocument(labels=labels, identity=identity, diagnostics=diagnostics))
    for folder, document in (
        ("claims", Claim(unit="a" * 64, host="x", pid=7, token="b" * 32, since=1.0)),
        ("failed", Failure(unit="a" * 64, message="x", when="2026-01-01T00:00:00Z")),
    ):
        (store.root / folder).mkdir()
        (store.root / folder / f"{'a' * 64}.json").write_bytes(document.to_bytes())
    shutil.copytree(store.root, root / "packed")
    shutil.rmtree(root / "packed" / "claims")
    pack(Store(root / "packed"))
    return root / "working", root / "packed", units
