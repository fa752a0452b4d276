"""Referee: recomputes norm, box and prediction of every example that an attack returns, and does not rely on the attack's claims."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from harness.threats import L2, LINF, NORMS
from model_zoo.threat import ThreatModel

# Predictions are always made in batches of this size, in the order of the block, whatever the attack did.
BATCH = 50


@dataclass(frozen=True)
class Verdict:
    """Judgement of adversarial examples, one entry per image.

    Attributes
    ----------
    logits : torch.Tensor
        float32 [N, classes], of the returned examples.
    prediction : torch.Tensor
        int64 [N], see `classify`.
    linf, l2 : torch.Tensor
        float64 [N]: norms of adversarial minus clean, in units of the [0, 1] pixel range.
    legal : torch.Tensor
        bool [N]: finite, inside the [0, 1] box, and inside the ball of the threat model.
    broken : torch.Tensor
        bool [N]: legal and not predicted as the label.
    """

    logits: torch.Tensor
    prediction: torch.Tensor
    linf: torch.Tensor
    l2: torch.Tensor
    legal: torch.Tensor
    broken: torch.Tensor


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return predicted classes, int64 [N], see `classify`; computed on the model's device, returned on that of the images."""
    return classify(logits_of(model, images))


def logits_of(model: nn.Module, images: torch.Tensor, batch: int = BATCH) -> torch.Tensor:
    """Return logits [N, classes] without gradients, in fixed batches; computed on the model's device, returned on that of the images."""
    device = device_of(model)
    with torch.no_grad():
        return torch.cat([model(part.contiguous().to(device)) for part in images.float().split(batch)]).to(images.device)


def classify(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the largest logit, int64 [N]; -1, which is never a label, if any logit of an image is NaN or infinite."""
    return torch.where(torch.isfinite(logits).all(1), logits.argmax(1), -1)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's tensors; the CPU if it has none."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def judge(model: nn.Module, images: torch.Tensor, adversarial: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> Verdict:
    """Judge the examples that an attack returned for `images`, both float32 [N, 3, H, W]; labels are int64 [N].

    A non-finite example is replaced by its clean image; it is neither legal nor broken.
    """
    finite = torch.isfinite(adversarial).flatten(1).all(1)
    examples = torch.where(finite[:, None, None, None], adversarial.detach(), images)
    difference = examples.double() - images.double()
    box = (examples.flatten(1).amin(1) >= 0.0) & (examples.flatten(1).amax(1) <= 1.0)
    norm = NORMS[threat.norm]
    legal = finite & box & (norm.size(difference) <= threat.epsilon + norm.tolerance)
    logits = logits_of(model, examples)
    prediction = classify(logits)
    return Verdict(logits, prediction, LINF.size(difference), L2.size(difference), legal, legal & (prediction != labels))
