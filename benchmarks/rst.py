"""Check whether the robustness of a robust scratch ticket is real: single attacks, with the right normalisation and with wrong ones.

    python benchmarks/rst.py [MODEL ...] [--n 100]

AdversarialPruningBenchmark reports RST at 61 % clean and 14 % under AutoAttack, RST's own authors about 78 % and 47 % under PGD-20. Either
its gradients are masked and PGD overestimates its robustness, or that benchmark wrapped the network wrongly. Masked gradients show as
APGD on the cross-entropy far above APGD on the DLR loss, or as Square below either; a wrong normalisation shows as lower clean accuracy,
and lower values of all others. Each row is one model on the first n images of cifar10-sample at Linf 8/255, with each attack alone; errors
on clean images count as broken. Prints Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from harness import attacks, datasets
from harness.attacks import AttackCall
from harness.attacks.native.losses import LOSSES
from harness.evaluation.probes import logit_scale, zero_gradient
from harness.evaluation.referee import predict
from harness.runner.identity import unit_seed
from harness.statistics import Proportion, mcnemar
from model_zoo.classifier import Classifier
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

MODELS = ("cifar10-rn8w32-rst-k10", "cifar10-rn8w32-pruned-binary-k10-p01-no-lbn", "cifar10-rn8w32-pruned-binary-k10-p01")
ALONE = ("apgd-ce", "apgd-dlr", "apgd-t", "square")
THREAT = ThreatModel.parse("Linf 8/255")


def right(model: Classifier) -> Classifier:
    """Return the model as it was trained."""
    return model


def none(model: Classifier) -> Classifier:
    """Remove the normalisation, as when the network is used without RST's data loader, which contains it."""
    model.mean.zero_()
    model.deviation.fill_(1.0)
    return model


def pixels(model: Classifier) -> Classifier:
    """Set the deviations over pixels (0.2470, 0.2435, 0.2616), which most codes use; the model was trained with those of image means."""
    model.deviation.copy_(torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1))
    return model


WRAPPED: dict[str, Callable[[Classifier], Classifier]] = {"right": right, "other deviations": pixels, "none": none}


def robust(model: Classifier, images: torch.Tensor, labels: torch.Tensor, component: str) -> torch.Tensor:
    """Return bool [N]: whether each image is classified correctly both clean and after one component of AutoAttack alone."""
    spec = attacks.get("autoattack")
    alone = replace(spec, parameters={**spec.parameters, "components": [component], "components_for_few_classes": [component]})
    clean = predict(model, images) == labels
    is_robust = clean.clone()
    if clean.any():
        adversarial = attacks.run(
            alone, AttackCall(model, images[clean].contiguous(), labels[clean], THREAT, unit_seed("0" * 64))
        ).adversarial
        is_robust[clean] = predict(model, adversarial) == labels[clean]
    return is_robust


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--n", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = datasets.load("cifar10-sample", n=options.n).tensors()
    sys.stdout.write(f"| model | normalisation | clean | {' | '.join(ALONE)} | CE less DLR, p | no gradient, CE | logit gap |\n")
    sys.stdout.write("| --- | --- |" + " ---: |" * (len(ALONE) + 4) + "\n")
    for name in options.models:
        for wrapped, wrap in WRAPPED.items():
            model = wrap(load_model(name))
            clean = predict(model, images) == labels
            is_robust_to = {component: robust(model, images, labels, component) for component in ALONE}
            shares = [str(Proportion(int(part.sum()), len(part))) for part in (clean, *is_robust_to.values())]
            test = mcnemar(is_robust_to["apgd-ce"].tolist(), is_robust_to["apgd-dlr"].tolist())
            blind = float(zero_gradient(model, images[clean], labels[clean], LOSSES["ce"]).float().mean())
            gap = logit_scale(model, images[clean]).median_gap
            cells = [model_name(name), wrapped, *shares, f"{test:.2g}", f"{100 * blind:.0f} %", f"{gap:.2f}"]
            sys.stdout.write(f"| {' | '.join(cells)} |\n")
            sys.stdout.flush()


def model_name(name: str) -> str:
    """Return a model's name without folder and suffix."""
    return name.rsplit("/", 1)[-1].removesuffix(".toml")


if __name__ == "__main__":
    main()
