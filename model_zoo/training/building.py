"""Build the untrained network of a recipe."""

from __future__ import annotations

import torch

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.errors import UsageError, one_line
from model_zoo.families import get_family
from model_zoo.training.controller import Controller
from model_zoo.training.recipe import Recipe


def build(recipe: Recipe) -> tuple[Classifier, Controller]:
    """Return the recipe's untrained classifier and its controller, drawn from the recipe's seed; restores the global random state.

    Raises
    ------
    UsageError
        If there is no such network: an architecture or option has a value that its builder or family cannot use.
    """
    family = get_family(recipe.family)
    options = family.all_options(recipe.options)
    # torch.manual_seed also seeds CUDA, if it is in use.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        torch.manual_seed(recipe.seed)
        try:
            model = build_classifier(recipe.architecture, family.convolution(options), family.affine)
            family.prepare(model, options)
            controller = family.controller(model, options)
        except (ValueError, RuntimeError, TypeError, ArithmeticError, LookupError) as error:
            text = f"recipe {recipe.id}: no network of family {recipe.family!r} with these options and this architecture"
            raise UsageError(f"{text} ({one_line(str(error), 100)})") from error
    return model, controller


def build_model(recipe: Recipe) -> Classifier:
    """Return the recipe's untrained classifier without its controller."""
    return build(recipe)[0]
