"""N-FGSM (de Jorge et al. 2022): one step of the radius from noise of twice the radius, without projection to the ball."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch

# The paper's k: noise is uniform within k times the radius.
NOISE = 2.0


class NoisyStep(Method):
    """Single-step training at the cost of FGSM-RS; stronger noise and the missing projection prevent catastrophic overfitting."""

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the adversarial logits; see `Method.loss`."""
        setting = self.setting
        noise = setting.draws.uniform(batch.images).mul_(2.0).sub_(1.0).mul_(NOISE * setting.epsilon)
        with input_gradients_only(setting.model, keep_statistics=not setting.faithful):
            noisy = (batch.images + noise).requires_grad_(True)
            loss = F.cross_entropy(setting.attacked(noisy).float(), batch.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, noisy)
        adversarial = noisy.detach().add_(gradient.sign_(), alpha=setting.step).clamp_(0.0, 1.0)
        logits = setting.trained(adversarial).float()
        return F.cross_entropy(logits, batch.labels), logits


METHOD = NoisyStep
