"""NuAT (Sriramanan et al. 2021): one attack step, and a nuclear norm that keeps the batch's logits near those of clean images.

The nuclear norm of the [N, classes] matrix of logit differences, adversarial minus clean, is the sum of its singular values: an upper
bound of the Frobenius norm that depends on the whole batch at once.

Details of the official code (github.com/val-iisc/NuAT, commit 8962290, CIFAR10/NuAT_cifar10.py: CIFAR-10, ResNet-18, radius 8/255):

- the attack starts at the image plus random signs of size 4/255 (`noise` = 1/2), clipped to [0, 1];
- it takes one step of 8/255, projected to the ball, on the cross-entropy in the first, third, ... batch, and on the cross-entropy plus
  the weighted nuclear norm in the batches between;
- the attack evaluates the network in evaluation mode, but the clean logits that it compares with come from training mode;
- the weight rises from 0 by equal amounts after every epoch to 4.5 (`nuclear_weight`) after 90 of 100 epochs (`nuclear_ramp` = 0.9);
- the nuclear norm is divided by the number of images.

The official step size equals the radius: a recipe for radius 8/255 has `step` = "8/255".
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import input_gradients_only, project
from model_zoo.training.methods import Method, Setting
from model_zoo.training.sampler import Batch


def nuclear_norm(difference: torch.Tensor) -> torch.Tensor:
    """Return the sum of singular values of logit differences [N, classes], divided by N."""
    return torch.linalg.svdvals(difference.float()).sum() / len(difference)


class NuclearNorm(Method):
    """NuAT training method.

    With `faithful`, a clean pass before the attack updates the running statistics, as in the official code. Otherwise only training
    passes do.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, {"batches": torch.zeros((), dtype=torch.long)})

    @property
    def weight(self) -> float:
        """Weight of the nuclear norm in the current epoch."""
        full, ramp = self.setting.nuclear_weight, self.setting.nuclear_ramp
        return full * (min(1.0, self.setting.progress / ramp) if ramp else 1.0)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the adversarial logits; see `Method.loss`."""
        setting, images = self.setting, batch.images
        uses_norm = int(self.memory["batches"]) % 2 == 1
        self.memory["batches"] += 1
        signs = torch.where(setting.draws.uniform(images) < 0.5, -1.0, 1.0)
        start = (images + setting.noise * setting.epsilon * signs).clamp_(0.0, 1.0)
        reference = None
        if uses_norm or setting.faithful:
            with input_gradients_only(setting.model, keep_statistics=not setting.faithful), torch.no_grad():
                reference = setting.attacked(images).float()
        setting.model.eval()
        with input_gradients_only(setting.model):
            start.requires_grad_(True)
            logits = setting.attacked(start).float()
            attack_loss = F.cross_entropy(logits, batch.labels)
            if uses_norm and reference is not None:
                attack_loss = attack_loss + self.weight * nuclear_norm(logits - reference)
            (gradient,) = torch.autograd.grad(attack_loss, start)
        setting.model.train()
        adversarial = project(start.detach().add_(gradient.sign_(), alpha=setting.step), images, setting.epsilon)
        # Two separate passes, as in the official code: each is normalised by the statistics of its images alone.
        logits, clean = setting.trained(adversarial).float(), setting.trained(images).float()
        return F.cross_entropy(clean, batch.labels) + self.weight * nuclear_norm(logits - clean), logits


METHOD = NuclearNorm
