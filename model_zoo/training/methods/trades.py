"""TRADES (Zhang et al. 2019): cross-entropy on clean images plus beta times the KL divergence between clean and adversarial predictions."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import input_gradients_only, project
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch

# Standard deviation of the normal noise at the attack's start.
START = 0.001


class Trades(Method):
    """TRADES training method.

    The attack maximises KL(clean || adversarial) in evaluation mode from a normally distributed start; the loss evaluates both passes in
    training mode.
    """

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the adversarial logits; see `Method.loss`."""
        setting, images = self.setting, batch.images
        setting.model.eval()
        with input_gradients_only(setting.model):
            with torch.no_grad():
                target = F.softmax(setting.attacked(images).float(), dim=1)
            adversarial = images + START * setting.draws.normal(images)
            for _ in range(setting.steps):
                adversarial.requires_grad_(True)
                divergence = F.kl_div(F.log_softmax(setting.attacked(adversarial).float(), dim=1), target, reduction="sum")
                (gradient,) = torch.autograd.grad(divergence, adversarial)
                adversarial = project(adversarial.detach().add_(gradient.sign_(), alpha=setting.step), images, setting.epsilon)
        setting.model.train()
        # Two separate passes, as in the official code: each is normalised by the statistics of its images alone.
        clean, logits = setting.trained(images).float(), setting.trained(adversarial).float()
        robust = F.kl_div(F.log_softmax(logits, dim=1), F.softmax(clean, dim=1), reduction="batchmean")
        return F.cross_entropy(clean, batch.labels) + setting.beta * robust, logits


METHOD = Trades
