"""Adversarial training with PGD (Madry et al. 2018): the cross-entropy on adversarial images alone.

With one step of 5/4 the radius it is the fast training of Wong et al. (2020, FGSM-RS).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.methods import Method
from model_zoo.training.sampler import Batch


class Madry(Method):
    """Both ways attack in train mode.

    Faithful to the official code: of the points the attack evaluates, the one of highest loss is trained on, and the attack's forward
    passes move the running statistics. Otherwise: the last point, and running statistics from the training passes alone.
    """

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """As in `Method`."""
        given = self.setting
        with input_gradients_only(given.model, keep_statistics=not given.faithful):
            start = given.draws.uniform(batch.images)
            adversarial = pgd(
                given.attacked, batch.images, batch.labels, given.epsilon, given.step, given.steps, start, best=given.faithful
            )
        logits = given.trained(adversarial).float()
        return F.cross_entropy(logits, batch.labels), logits


METHOD = Madry
