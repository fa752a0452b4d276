"""The paper's fast training: one step from a perturbation that is stored per training image between epochs (after Zheng et al. 2020).

The perturbation is stored on the padded canvas of its image and is cropped and flipped with it, so it stays aligned. Every batch takes
two passes.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.training.inner_attack import input_gradients_only, project
from model_zoo.training.methods import Method, Setting
from model_zoo.training.sampler import Batch, Crop, cut


class StoredStep(Method):
    """Single-step training with stored perturbations; raises UsageError if the run has several processes.

    Unless `faithful`, it differs from the official code in the padding (black, not grey) and in cropping at all 9 offsets, not 8. In both
    cases, perturbations are stored in float16 (half the memory: 470 MB for CIFAR), and the soft labels that the official code computes but
    never uses are left out.
    """

    def __init__(self, setting: Setting) -> None:
        if setting.draws.share.world > 1:
            raise UsageError("stored perturbations cannot be shared between processes: train this recipe on one device")
        number, channels, height, width = setting.images.shape
        padding = 2 * self.crop(setting.faithful).padding
        canvas = torch.empty((number, channels, height + padding, width + padding), dtype=torch.float16)
        # Drawn image by image, because one float32 draw would need twice the memory of the float16 canvas.
        for row in canvas:
            row.copy_(torch.rand(row.shape, generator=setting.draws.generator).mul_(2.0).sub_(1.0).mul_(setting.epsilon))
        super().__init__(setting, {"perturbations": canvas.to(setting.images.device)})

    @staticmethod
    def crop(faithful: bool) -> Crop:
        """Return the official code's augmentation if `faithful`; see `Method.crop`."""
        return Crop(value=0.5, offsets=8) if faithful else Crop()

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the adversarial logits, and store the new perturbations; see `Method.loss`."""
        setting, canvas = self.setting, self.memory["perturbations"]
        stored = cut(canvas[batch.index].float(), batch.rows, batch.columns)
        with input_gradients_only(setting.model, keep_statistics=not setting.faithful):
            start = project(batch.images + stored, batch.images, setting.epsilon).requires_grad_(True)
            loss = F.cross_entropy(setting.attacked(start).float(), batch.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, start)
        adversarial = project(start.detach().add_(gradient.sign_(), alpha=setting.step), batch.images, setting.epsilon)
        perturbations = (adversarial - batch.images).permute(0, 2, 3, 1).half()
        canvas.permute(0, 2, 3, 1)[batch.index[:, None, None], batch.rows[:, :, None], batch.columns[:, None, :]] = perturbations
        logits = setting.trained(adversarial).float()
        return F.cross_entropy(logits, batch.labels), logits


METHOD = StoredStep
