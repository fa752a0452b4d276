"""Adversarial training with PGD (Madry et al. 2018): the cross-entropy on adversarial images only.

With one step of 5/4 of the radius, this is the fast training of Wong et al. (2020, FGSM-RS).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch


class Madry(Method):
    """PGD training; the attack runs in training mode.

    With `faithful`, as in the official code, the loss uses the point of highest loss among those that the attack evaluates, and the
    attack's forward passes update the running statistics. Otherwise it uses the last point, and only the training passes update them.
    """

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the adversarial logits; see `Method.loss`."""
        setting = self.setting
        with input_gradients_only(setting.model, keep_statistics=not setting.faithful):
            start = setting.draws.uniform(batch.images)
            adversarial = pgd(
                setting.attacked, batch.images, batch.labels, setting.epsilon, setting.step, setting.steps, start, best=setting.faithful
            )
        logits = setting.trained(adversarial).float()
        return F.cross_entropy(logits, batch.labels), logits


METHOD = Madry
