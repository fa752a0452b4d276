"""A model that has passed the gates on a block of images, as attacks see it and as the referee judges it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harness.attacks.native.surrogates import Surrogate
from harness.datasets.base import ImageSet
from harness.evaluation.expectation import Expectation
from harness.evaluation.gates import check_images, check_model
from harness.evaluation.referee import device_of


@dataclass(frozen=True, eq=False)
class Subject:
    """One model in two forms.

    Attributes
    ----------
    judged : nn.Module
        The model whose predictions count.
    attacked : nn.Module
        The model that attacks query and differentiate.
    is_deterministic : bool
        Whether the model returns the same logits for the same image each time.
    """

    judged: nn.Module
    attacked: nn.Module
    is_deterministic: bool = True


def admit(
    model: nn.Module,
    block: ImageSet,
    *,
    backward: str = "exact",
    draws: tuple[int, int] | None = None,
    attacked: nn.Module | None = None,
) -> Subject:
    """Run the gates on `model` and the images of `block`, and return the model as it is attacked and judged.

    Every evaluation begins here: units, comparisons, diagnoses and the self-test.

    Parameters
    ----------
    model : nn.Module
        Frozen model in eval mode; maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].
    backward : str
        How attacks differentiate the model's step functions: "exact" (as they are) or by a name in `surrogates.SLOPES`.
    draws : tuple of int, optional
        For a model declared stochastic, the number of draws per query of an attack and per judgement: it is attacked and judged by its
        mean logits. A stochastic model is refused if this is None.
    attacked : nn.Module, optional
        An engine equal to the model that is attacked in its place.

    Raises
    ------
    RefusedError
        If a gate refuses the images or the model.
    """
    images, labels = block.tensors()
    check_images(images, labels, len(block.classes))
    judged = model if draws is None else Expectation(model, draws[1], seed=0)
    check_model(judged, images.to(device_of(model)), len(block.classes), alone=draws is None)
    return Subject(judged, as_attacked(model if attacked is None else attacked, backward, draws), draws is None)


def as_attacked(model: nn.Module, backward: str = "exact", draws: tuple[int, int] | None = None) -> nn.Module:
    """Return the model that an attack sees: `model` with its declared gradient, and its mean over new draws if it is stochastic."""
    differentiable = model if backward == "exact" else Surrogate(model, backward)
    return differentiable if draws is None else Expectation(differentiable, draws[0])
