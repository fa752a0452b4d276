"""Checkpoints of AdversarialPruningBenchmark (Piras et al. 2024; github.com/pralab/AdversarialPruningBenchmark, commit 0ae46e7).

The benchmark has 84 models of ten methods, named METHOD_Author_R18|V16_CIFAR10|SVHN_US|S_sparsity. The name decides how a file is read,
because its tensors do not say how images are normalised; architecture and sparsity of the name are compared with those of the tensors. The
state is under `state_dict` or `net`.

The benchmark's loader distinguishes three methods by name and replaces the numbers of Flying Bird's normalisation by constants; this module
uses the numbers in the file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from model_zoo.adapters import Adapter, Imported, Request
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.describe import describe
from model_zoo.adapters.fill import fill, take
from model_zoo.adapters.flying_bird import load_flying_bird
from model_zoo.adapters.harp import load_harp
from model_zoo.adapters.hydra import load_hydra
from model_zoo.adapters.recognise import recognise
from model_zoo.adapters.rst import load_rst
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError

NAME = re.compile(r"(?P<method>[A-Za-z0-9]+)_\w+?_(?P<network>R18|V16)_(?P<dataset>CIFAR10|SVHN)_(?P<structure>US|S)_(?P<sparsity>\d{1,2})")
LISTING = "harness ls formats --json"
SCORES = (".popup_scores", ".scores")
NETWORKS = {"R18": ("cifar-resnet18", "preact-resnet18"), "V16": ("vgg16",)}


@dataclass(frozen=True)
class Key:
    """Parsed name of a model of the benchmark; `keep_ratio` is 1 - sparsity."""

    method: str
    network: str
    dataset: str
    structured: bool
    keep_ratio: float

    @classmethod
    def parse(cls, name: str) -> Key:
        """Parse text that begins with a name such as HARP_Zhao2023Holistic_R18_CIFAR10_US_90; raises a UsageError for other text."""
        match = NAME.match(name)
        if match is None:
            raise UsageError(
                f"{name!r} is not a name of the benchmark: give the file its name there, such as HARP_Zhao2023Holistic_R18_CIFAR10_US_90"
            )
        keep_ratio = round(1 - int(match["sparsity"]) / 100, 2)
        return cls(match["method"], match["network"], match["dataset"], match["structure"] == "S", keep_ratio)


@dataclass(frozen=True)
class Method:
    """How to read the files of one method: by another format's `load`, or, if that is None, as weights with zeros."""

    bibliography: str
    taxonomy: Mapping[str, Any]
    load: Callable[[Path, Request], Imported] | None = None
    normalisation: str = "none"
    pool: str = "max"


def _taxonomy(when: str, scored: str, scope: str) -> dict[str, str]:
    return {"when": when, "scored": scored, "scope": scope}


# Taxonomy from the benchmark's taxonomy.json: its "least importance score" is "learned" here, its solver- and sparsity-based magnitudes are
# "magnitude".
METHODS = {
    "RADMM": Method("ye2019", _taxonomy("after", "magnitude", "local")),
    "HYDRA": Method("sehwag2020", _taxonomy("after", "learned", "local"), load_hydra),
    "HARP": Method("zhao2023", _taxonomy("after", "learned", "global"), load_harp),
    "PwoA": Method("jian2022", _taxonomy("after", "magnitude", "local")),
    # MAD's networks normalise with the deviations of image means, which are attributes and not in the state.
    "MAD": Method("lee2022", _taxonomy("after", "learned", "global"), normalisation="cifar10", pool="average"),
    "Li20": Method("li2020", _taxonomy("before", "magnitude", "global")),
    "RST": Method("fu2021", _taxonomy("before", "learned", "local"), load_rst),
    "RobustBird": Method("chen2022", _taxonomy("before", "magnitude", "global"), load_flying_bird),
    "TwinRep": Method("li2023", _taxonomy("during", "magnitude", "global")),
    "FlyingBird": Method("chen2022", _taxonomy("during", "magnitude", "global"), load_flying_bird),
}
# Largest difference between the keep ratio of the weights and that of the name without a note.
TOLERANCE = 0.01


def load_apbench(path: Path, request: Request) -> Imported:
    """Read a checkpoint in the way that its name demands; nothing in it is executed.

    Raises
    ------
    UsageError
        If the name is not one of the benchmark, names another data set than CIFAR-10, or contradicts the requested keep ratio.
    DamagedFileError
        As the method's adapter raises it, or if the architecture is not that of the name.
    """
    key = Key.parse(request.name or path.name)
    if key.method not in METHODS:
        raise UnknownNameError("method of the benchmark", key.method, METHODS, LISTING)
    if request.keep_ratio not in (None, key.keep_ratio):
        raise UsageError(f"{request.name or path.name} has keep ratio {key.keep_ratio:g} in its name, not {request.keep_ratio:g}")
    method = METHODS[key.method]
    if key.dataset != "CIFAR10":
        raise UsageError(f"{request.name}: this project has no data set {key.dataset}")
    if method.load is None:
        imported = _load_zeros(path, method)
    else:
        has_scores = any(name.endswith(SCORES) for name in tensors(path, read_checkpoint(path)))
        imported = method.load(path, dataclasses.replace(request, keep_ratio=key.keep_ratio if has_scores else None))
    name = str(imported.architecture["name"])
    if name not in NETWORKS[key.network]:
        hint = " (HYDRA's R18_US_90 is published twice, and its V16_US_99 not at all)" if key.method == "HYDRA" else ""
        raise DamagedFileError(path, f"a {key.network}, as its name says", f"{name}{hint}")
    keep_ratio = 1.0 if imported.keep_ratio is None else imported.keep_ratio
    notes = list(imported.notes)
    if abs(keep_ratio - key.keep_ratio) > TOLERANCE:
        notes.append(f"{100 * keep_ratio:.2f} per cent of the weights are kept, but the name says {100 * key.keep_ratio:g}")
    if key.method == "RST":
        notes.append("the benchmark reports 61 per cent clean at sparsity 90, RST's authors about 78: compare the clean accuracy first")
    taxonomy = {**method.taxonomy, "structured": key.structured} if imported.taxonomy or method.load is None else imported.taxonomy
    return dataclasses.replace(imported, method=method.bibliography, taxonomy=taxonomy, notes=tuple(notes))


def _load_zeros(path: Path, method: Method) -> Imported:
    """Read a file whose pruned weights are zero; in MAD's files every weight has a factor."""
    state = _without_factors(path, tensors(path, read_checkpoint(path), prefixes=("model.",)))
    recognised = recognise(path, state, method.pool)
    architecture = {**recognised.architecture, "normalisation": method.normalisation}
    model = fill(path, recognised.renamed(state), architecture, recognised.affine)
    return describe(model, architecture, recognised.affine, method.bibliography, {})


def _without_factors(path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Multiply factors into the tensors: MAD's layers compute with weight softplus(mask_weight), and likewise for the bias."""
    merged = dict(state)
    for name in [name for name in state if ".mask_" in name]:
        target = name.replace(".mask_", ".")
        if target not in merged:
            raise DamagedFileError(path, f"a tensor {target!r}", "none of that name")
        merged[target] = merged[target] * F.softplus(take(path, merged, name, tuple(merged[target].shape)))
    return merged


ADAPTER = Adapter(
    name="apbench",
    reads="AdversarialPruningBenchmark (Piras et al. 2024), by the name of the model",
    load=load_apbench,
    files="84 Google Drive links in taxonomy/models.py of github.com/pralab/AdversarialPruningBenchmark",
)
