"""Faults of a harness rather than of a model.

Each case provokes a fault, or computes its naive form for comparison, and checks that this harness does not have it.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from harness import attacks, datasets
from harness.attacks import AttackCall
from harness.attacks.native.losses import cross_entropy
from harness.attacks.spec import AttackSpec
from harness.evaluation.counts import WORST, long_frame, planned_images
from harness.evaluation.diagnostics import Diagnostics
from harness.evaluation.probes import zero_gradient
from harness.evaluation.unit import evaluate_unit
from harness.evaluation.verdict import judge
from harness.selftest import Case, Finding
from harness.selftest.toys import THREAT, images, toy
from model_zoo.threat import ThreatModel

FEW = 24


def quick(name: str, **changes: object) -> AttackSpec:
    """Return an attack of the registry with some parameters changed, so that it takes a second."""
    spec = attacks.get(name)
    return replace(spec, parameters={**spec.parameters, **changes})


def _few_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first few images and labels, of which the toy network classifies nearly all correctly."""
    x, y = images()
    return x[:FEW].contiguous(), y[:FEW]


class _Shifted(nn.Module):
    """A model with a constant added to all logits, which changes no prediction."""

    def __init__(self, model: nn.Module, shift: float) -> None:
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(batch) + self.shift
        return logits


def _masked_max(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the margin as some packages compute it: the largest of all logits after the label's logit is multiplied by zero."""
    one_hot = F.one_hot(labels, logits.shape[1])
    return ((1 - one_hot) * logits).max(1).values - (one_hot * logits).sum(1)


def _negative_logits() -> Finding:
    """Subtract a constant from all logits: our attack must break the same images, and the masked maximum must change."""
    x, y = _few_images()
    model, shifted = toy("relu"), _Shifted(toy("relu"), -64.0).eval()
    spec = quick("cw-linf", steps=10)
    broken_by = [attacks.run(spec, AttackCall(network, x, y, THREAT, 0)).broken_by for network in (model, shifted)]
    with torch.no_grad():
        naive = [_masked_max(network(x), y) for network in (model, shifted)]
    fault = not torch.allclose(naive[0], naive[1], atol=1e-2)
    return Finding(
        fault and broken_by[0] == broken_by[1], "cw-linf breaks the same images with 64 taken from all logits; a masked maximum does not"
    )


def _unnoticed_saturation() -> Finding:
    """Check our probe on a cross-entropy without gradient, which AutoAttack's check misses because it looks at the DLR loss alone."""
    x, y = _few_images()
    model = toy("relu", scale=1000.0)
    flags = attacks.run(quick("autoattack", components=["apgd-ce"], apgd_n_iter=5), AttackCall(model, x, y, THREAT, 0)).flags
    share = float(zero_gradient(model, x, y, cross_entropy).float().mean())
    upstream = any(flag.kind == "zero-gradient" for flag in flags)
    return Finding(
        share > 0.9 and not upstream, f"our probe: {100 * share:.0f} % of images without a gradient of the cross-entropy; no upstream flag"
    )


class _Dynamic(nn.Module):
    """A model that computes a gradient in its forward pass, which AutoAttack calls dynamic."""

    def __init__(self) -> None:
        super().__init__()
        self.model = toy("relu")

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            point = batch.detach().clone().requires_grad_(True)
            torch.autograd.grad(self.model(point).sum(), point)
        logits: torch.Tensor = self.model(batch)
        return logits


def _leaking_flag() -> Finding:
    x, y = _few_images()
    spec = quick("autoattack", components=["apgd-ce"], apgd_n_iter=5)
    dynamic, static = (
        {flag.kind for flag in attacks.run(spec, AttackCall(model.eval(), x, y, THREAT, 0)).flags} for model in (_Dynamic(), toy("relu"))
    )
    caught = "dynamic" in dynamic and "dynamic" not in static
    return Finding(caught, "the dynamic model is flagged, the one after it is not")


def _clock_seeds() -> Finding:
    x, y = _few_images()
    spec = quick("autoattack", components=["apgd-ce", "square"], apgd_n_iter=5, square_n_queries=50)
    state_before = _random_state()
    first, second = (attacks.run(spec, AttackCall(toy("relu"), x, y, THREAT, 7)).adversarial for _ in range(2))
    return Finding(
        torch.equal(first, second) and _random_state() == state_before,
        "the same unit gives the same bytes, and the global random state is as it was",
    )


def _random_state() -> tuple[object, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state(legacy=False)["state"]["key"].tolist(), random.getstate()


def _small_shards() -> Finding:
    """Judge one image that only Square breaks: above a constant of 0.2 % on a shard of 25, no alarm on 250; twenty of 250 are an alarm."""
    upstream = 1 / 25 > 0.002
    small, large = (judge(_diagnostics_with_gain(gained)).level for gained in (1, 20))
    return Finding(
        upstream and small == "ok" and large == "masked", "a binomial test on merged results: 1 of 250 raises no alarm, 20 of 250 do"
    )


def _diagnostics_with_gain(gained: int) -> Diagnostics:
    n = 250
    white_box, zeros = "1" * 100 + "0" * 150, "0" * n
    square = "0" * gained + "1" * (200 - gained) + "0" * 50
    return Diagnostics(
        predictions=tuple(range(n)),
        median_gap=1.0,
        saturated=0.0,
        no_gradient={"ce": zeros, "margin": zeros, "dlr": zeros},
        robust={"ce": white_box, "margin": white_box, "descent": white_box, "square": square, "noise": white_box, "decision": white_box},
        rising="0" * 100 + "-" * 150,
        sweep={"8/255": white_box, "64/255": zeros},
    )


def _uneven_batches() -> Finding:
    """Average 300 images in blocks of 250 and 50: the mean of the blocks' accuracies is not the accuracy."""
    robust = [True] * 250 + [False] * 50
    naive = (1.0 + 0.0) / 2
    frame = pd.DataFrame(
        {
            "protocol": 1,
            "seed": 0,
            "model": "m",
            "dataset": "cifar10",
            "norm": "Linf",
            "radius": "8/255",
            "attack": "pgd",
            "image": range(300),
            "label": 0,
            "clean_prediction": 0,
            "robust": robust,
            "robust_to_seen": robust,
            "broken_by": [None if is_robust else "pgd" for is_robust in robust],
        }
    )
    counts = long_frame(frame, planned_images(frame))
    worst = counts[counts["measure"] == WORST].iloc[0]
    accuracy = float(worst["successes"] / worst["n"])
    return Finding(
        accuracy == 250 / 300 != naive, f"counted image by image: {100 * accuracy:.1f} %, but a mean of blocks gives {100 * naive:.0f} %"
    )


class _TwoClasses(nn.Module):
    """The first two logits of the toy network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = toy("relu")

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(batch)
        return logits[:, :2]


def _few_classes() -> Finding:
    """Run AutoAttack on two classes: it must leave out the targeted DLR loss, whose denominator contains the fourth largest logit."""
    model = _TwoClasses().eval()
    x, _ = _few_images()
    with torch.no_grad():
        y = model(x).argmax(1)
    spec = quick("autoattack", apgd_n_iter=5, fab_n_iter=5, square_n_queries=50)
    result = attacks.run(spec, AttackCall(model, x, y, THREAT, 0))
    broken_by = {component for component in result.broken_by if component}
    allowed = set(attacks.get("autoattack").parameters["components_for_few_classes"])
    return Finding(
        broken_by <= allowed and "apgd-t" not in allowed, f"AutoAttack leaves the targeted losses out: {', '.join(sorted(allowed))}"
    )


def _unbounded() -> Finding:
    """Run CW-L2, which finds a wrong prediction for every image at some distance: without a bound, its "robust accuracy" is 0."""
    sample = datasets.load("cifar10-sample").first(FEW)
    threat = ThreatModel.parse("L2 1/16")
    frame = evaluate_unit(toy("relu"), sample, threat, quick("cw-l2", steps=50), 0).frame
    is_beyond = (frame["adversarial_prediction"] != frame["label"]) & (frame["l2"] > threat.epsilon)
    return Finding(
        bool(is_beyond.any() and frame["robust"][is_beyond].all()),
        f"{int(is_beyond.sum())} examples beyond {threat} do not count as broken",
    )


def _tf32() -> Finding | None:
    """Check that the referee computes in float32: TF32's faster matrix products, which only GPUs have, flip images near the boundary."""
    if not torch.cuda.is_available():
        return None
    return Finding(not torch.backends.cuda.matmul.allow_tf32, "float32 matrix products")


CASES = (
    Case(2, "zero-centred logits and a masked maximum", "harness", _negative_logits),
    Case(11, "TF32 in the referee", "harness", _tf32),
    Case(13, "saturation that AutoAttack's own check does not see", "harness", _unnoticed_saturation),
    Case(14, "a flag that leaks from one model to the next", "harness", _leaking_flag),
    Case(15, "seeds from the clock", "harness", _clock_seeds),
    Case(16, "Square's alarm on a small shard", "harness", _small_shards),
    Case(17, "AutoAttack on two classes", "harness", _few_classes),
    Case(19, "averages of uneven batches", "harness", _uneven_batches),
    Case(20, "CW-L2 without a bound", "harness", _unbounded),
)
