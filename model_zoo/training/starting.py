"""Start a training run from a packed checkpoint: from its weights, or from its mask if weights are frozen and scores are learned."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.families import get_family
from model_zoo.families.bcs import SignedConv2d
from model_zoo.families.int8 import Int8Conv2d
from model_zoo.layers.binary_connect import BinaryConnectConv2d
from model_zoo.layers.factored import FactoredConv2d, square_right
from model_zoo.layers.masked import MaskedConv2d
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask
from model_zoo.training.recipe import Recipe


def start_sha256(recipe: Recipe) -> str:
    """Return the sha256 of the checkpoint that the recipe starts from, or "" if it starts from none.

    Raises
    ------
    DamagedFileError
        If the file does not exist.
    """
    if recipe.start_path is None:
        return ""
    if not recipe.start_path.is_file():
        raise DamagedFileError(recipe.start_path, "a packed checkpoint to start from", "no file")
    return hashlib.sha256(recipe.start_path.read_bytes()).hexdigest()


def start_from(model: Classifier, recipe: Recipe) -> None:
    """Initialise an untrained network from the recipe's checkpoint; does nothing if the recipe names none.

    Networks with trained weights take the effective weights and the batch norms. Networks with frozen weights and learned scores take only
    the mask: the scores are those drawn from the seed, with the largest of every layer moved to the positions that the checkpoint keeps.

    Parameters
    ----------
    model : Classifier
        Result of `model_zoo.training.building.build`; changed in place.

    Raises
    ------
    UsageError
        If the checkpoint has another architecture or other batch norms, keeps another number of weights in a layer, has other signs than
        the seed draws, or cannot be read because packages are missing; or if a layer cannot start from a checkpoint.
    DamagedFileError
        If the file is not a packed checkpoint.
    """
    path = recipe.start_path
    if path is None:
        return
    try:
        from model_zoo.packing.frozen import batch_norm_tensors, convolutions, dense_weights
        from model_zoo.packing.packed import load_packed
    except ImportError as error:
        raise UsageError(f"starting from {path} needs the packages safetensors and constriction: {error}") from None
    packed = load_packed(path)
    if dict(packed.header["architecture"]) != dict(recipe.architecture):
        raise UsageError(f"{path} has another architecture than the recipe: {dict(packed.header['architecture'])}")
    layers = convolutions(model)
    with torch.no_grad():
        for number, (layer, weight) in enumerate(zip(layers, dense_weights(packed.model), strict=True)):
            try:
                _start_layer(layer, weight)
            except UsageError as error:
                raise UsageError(f"{path}, layer {number}: {error}") from None
        if any(isinstance(layer, PrunedBinaryConv2d) for layer in layers):
            return
        if packed.header["affine"] != get_family(recipe.family).affine:
            raise UsageError(f"{path} has other batch norms than family {recipe.family!r}: one of the two learns a scale and a shift")
        for target, source in zip(batch_norm_tensors(model), batch_norm_tensors(packed.model), strict=True):
            target.copy_(source)


def _start_layer(layer: nn.Module, weight: torch.Tensor) -> None:
    """Initialise one layer from `weight` [out, in, k, k]."""
    if isinstance(layer, PrunedBinaryConv2d):
        _start_scores(layer, weight)
    elif isinstance(layer, SignedConv2d):
        layer.signs.copy_(torch.where(weight == 0, layer.signs, weight.sign()))
        # The family's controller adds the missing connections after the first step.
        layer.mask.mul_(weight != 0)
        layer.weight.copy_(weight.abs() * layer.mask)
    elif isinstance(layer, BinaryConnectConv2d):
        layer.latent.copy_(weight.clamp(-1.0, 1.0))
    elif isinstance(layer, FactoredConv2d):
        for part in layer.factors():
            part.zero_()
        (layer.left if square_right(layer.right.shape) else layer.right).copy_(weight.flatten(1))
    elif isinstance(layer, nn.Conv2d | MaskedConv2d | Int8Conv2d):
        layer.weight.copy_(weight)
    else:
        raise UsageError(f"a {type(layer).__name__} cannot start from a checkpoint")


def _start_scores(layer: PrunedBinaryConv2d, weight: torch.Tensor) -> None:
    """Exchange scores so that those of largest magnitude are where `weight` [out, in, k, k] is nonzero."""
    kept = (weight != 0).flatten()
    if int(kept.sum()) != layer.kept:
        raise UsageError(f"it keeps {int(kept.sum())} weights, but the recipe keeps {layer.kept}")
    if not torch.equal(weight.sign().flatten()[kept], layer.signs.flatten()[kept]):
        raise UsageError("its signs are not those that the recipe's seed draws")
    scores = layer.scores.flatten().clone()
    is_largest = top_mask(scores, layer.kept) > 0
    gain, lose = (kept & ~is_largest).nonzero().flatten(), (is_largest & ~kept).nonzero().flatten()
    scores[gain], scores[lose] = scores[lose].clone(), scores[gain].clone()
    # Equal magnitudes on both sides of the threshold would make the mask arbitrary.
    smallest = scores[kept].abs().min()
    below = torch.nextafter(smallest, torch.zeros_like(smallest))
    is_tied = ~kept & (scores.abs() >= smallest)
    scores[is_tied] = scores[is_tied].sign() * below
    layer.scores.copy_(scores.view_as(layer.scores))
    layer.refresh()
