"""The referee: recomputes norm, box and prediction of every example an attack returns; the attack's own word never counts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from model_zoo.threat import ThreatModel

# Float32 rounding of x + delta clipped to [0, 1]; a pixel value is a multiple of 1/255 = 4e-3, so nothing is won inside it.
TOLERANCE = 1e-6
# Predictions are always made in batches of this size, in block order, whatever the attack did.
BATCH = 50


@dataclass(frozen=True)
class Verdict:
    """One entry an image. Norms are those of adversarial - clean, in units of the [0, 1] range.

    Attributes
    ----------
    logits : torch.Tensor
        float32 [N, classes], of the returned example.
    prediction : torch.Tensor
        int64 [N], see `classify`.
    linf, l2 : torch.Tensor
        float64 [N].
    legal : torch.Tensor
        bool [N]: finite, inside the box, and inside the ball of the threat model.
    broken : torch.Tensor
        bool [N]: legal and predicted as something else than the label.
    """

    logits: torch.Tensor
    prediction: torch.Tensor
    linf: torch.Tensor
    l2: torch.Tensor
    legal: torch.Tensor
    broken: torch.Tensor


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Predicted classes, int64 [N], see `classify`; made where the model is, given where the images are."""
    return classify(logits_of(model, images))


def logits_of(model: nn.Module, images: torch.Tensor, batch: int = BATCH) -> torch.Tensor:
    """Logits [N, classes] in fixed batches, without gradients; made where the model is, given where the images are."""
    device = device_of(model)
    with torch.no_grad():
        return torch.cat([model(part.contiguous().to(device)) for part in images.float().split(batch)]).to(images.device)


def classify(logits: torch.Tensor) -> torch.Tensor:
    """Classes of the largest logits, int64 [N]; -1, which is no label, for an image with logits that are NaN or infinite."""
    return torch.where(torch.isfinite(logits).all(1), logits.argmax(1), -1)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's tensors are; the CPU for one that has none."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def judge(model: nn.Module, images: torch.Tensor, adversarial: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> Verdict:
    """Judge what an attack returned for `images`, both float32 [N, 3, H, W].

    An example that is not finite counts as its clean image: not legal, not broken.
    """
    finite = torch.isfinite(adversarial).flatten(1).all(1)
    examples = torch.where(finite[:, None, None, None], adversarial.detach(), images)
    difference = (examples.double() - images.double()).flatten(1)
    linf, l2 = difference.abs().amax(1), difference.norm(dim=1)
    size = linf if threat.norm == "Linf" else l2
    box = (examples.flatten(1).amin(1) >= 0.0) & (examples.flatten(1).amax(1) <= 1.0)
    legal = finite & box & (size <= threat.epsilon + TOLERANCE)
    logits = logits_of(model, examples)
    prediction = classify(logits)
    return Verdict(logits, prediction, linf, l2, legal, legal & (prediction != labels))
