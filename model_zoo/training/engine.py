"""How a training run computes: the seam between the trainer and the code that evaluates the network.

The dense engine is plain PyTorch. Other engines may compute the same network faster; a run stores the name of its engine and is only
resumed with the same one.
"""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from model_zoo.classifier import Classifier
from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.recipe import Recipe
from model_zoo.training.sharing import Share, shared

ENGINES = ("auto", "dense", "sparse")
INSTALL_FAST = "pip install 'robust-binary-harness[fast]'"
# A network that keeps less than this share of its weights is computed by the sparse kernels, one that keeps more densely.
SPARSE_BELOW = 0.5


class Engine(ABC):
    """Logits for the attack, logits whose gradient reaches the parameters, and logits of the frozen network.

    Attributes
    ----------
    name : str
        Name of the engine, "dense" for plain PyTorch. Part of what a resumed run must have in common with its state.
    precision : str
        Arithmetic of `attacked` and `trained`: "float32", "bfloat16 autocast".
    """

    name: str
    precision: str

    @abstractmethod
    def attacked(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] that the inner attack differentiates with respect to `images`; called inside `input_gradients_only`.

        The network is in the mode, training or evaluation, that the caller has set. In training mode, running statistics are updated with
        the batch norms' `momentum`, which `input_gradients_only` sets to zero if they are to stay.
        """

    @abstractmethod
    def trained(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] whose gradient reaches the parameters; uses batch statistics and updates the running statistics.

        Also called without gradients, to recompute running statistics: each batch norm updates them with its own `momentum`, which changes
        between calls.
        """

    @abstractmethod
    def evaluated(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of the frozen network, float32, from the running statistics.

        Gradients with respect to `images` are possible, gradients of parameters are not.
        """

    @abstractmethod
    def refresh(self) -> None:
        """Bring everything derived up to date; called after every change of parameters, masks or buffers.

        Such changes are an optimiser step, the beginning of an epoch, restoring a run, and exchanging weights for their average.
        """

    def arithmetic(self) -> AbstractContextManager[object]:
        """Context in which the run's steps are computed; does nothing by default."""
        return nullcontext()

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors that decide how the run continues and that the model does not hold; none by default."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned; by default a ValueError if there is anything to restore."""
        if state:
            raise ValueError(f"engine {self.name} has no state {sorted(state)[0]!r}")


class DenseEngine(Engine):
    """Plain PyTorch: every pass calls the model itself, compiled and wrapped for several processes if asked for.

    Parameters
    ----------
    model : nn.Module
        The network, on its device.
    share : Share
        The part of every batch that this process computes.
    batch : int
        Images per batch, over all processes.
    faithful : bool
        Compute in float32 even if the device has bfloat16.
    compiled : bool
        Compile the network with `torch.compile`.
    """

    name = "dense"

    def __init__(self, model: nn.Module, share: Share, batch: int, faithful: bool = False, compiled: bool = False) -> None:
        self.model = model
        device = next(model.parameters()).device
        self._autocast, self.precision = _precision(device.type, faithful)
        self._network: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        self._shared = shared(self._network, share, batch)

    def attacked(self, images: torch.Tensor) -> torch.Tensor:
        """As in `Engine`."""
        with self._autocast():
            logits: torch.Tensor = self._network(images)
        return logits

    def trained(self, images: torch.Tensor) -> torch.Tensor:
        """As in `Engine`."""
        with self._autocast():
            logits: torch.Tensor = self._shared(images)
        return logits

    def evaluated(self, images: torch.Tensor) -> torch.Tensor:
        """As in `Engine`; the model is in its previous mode afterwards."""
        training = self.model.training
        self.model.eval()
        try:
            with input_gradients_only(self.model):
                logits: torch.Tensor = self.model(images)
        finally:
            self.model.train(training)
        return logits

    def refresh(self) -> None:
        """Update masks and latent weights of all layers that have a `refresh`."""
        refresh(self.model)


def refresh(model: nn.Module) -> None:
    """Call `refresh` of every module that has one: once per change of parameters, not once per forward pass."""
    for module in model.modules():
        update = getattr(module, "refresh", None)
        if update is not None:
            update()


def resolve_engine(recipe: Recipe, device: str, asked: str = "auto") -> str:
    """Name of the engine that trains `recipe` on `device`: a fixed rule, never a measurement.

    Parameters
    ----------
    recipe : Recipe
        The recipe to train.
    device : str
        "cpu" or "cuda".
    asked : str
        "auto", or the name of an engine.

    Raises
    ------
    UsageError
        If there is no such engine or it cannot train this recipe on this device.
    """
    if asked not in ENGINES:
        raise UsageError(f"engine is one of {', '.join(ENGINES)}, not {asked!r}")
    impossible = _impossible(recipe, device)
    if asked == "sparse" and impossible is not None:
        raise UsageError(f"engine sparse cannot train recipe {recipe.id!r}: {impossible}; use --engine dense")
    if asked == "dense" or (asked == "auto" and (impossible is not None or not _is_worthwhile(recipe))):
        return "dense"
    if importlib.util.find_spec("numba") is None:
        raise UsageError(f"recipe {recipe.id!r} trains on engine sparse, which needs numba: {INSTALL_FAST}, or train with --engine dense")
    return "sparse"


def _impossible(recipe: Recipe, device: str) -> str | None:
    """Why engine sparse cannot train the recipe, None if it can."""
    if device != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "it runs on the CPU, in one process"
    architecture = str(recipe.architecture["name"])
    if not architecture.startswith("cifar-") or "resnet" not in architecture:
        return f"it knows the residual networks for CIFAR, not {architecture}"
    if recipe.architecture.get("head_bias"):
        return "it knows no classifier with a bias"
    if recipe.attack.faithful:
        return "a faithful run attacks with the statistics of the attacked batch"
    if recipe.optimiser.batch % 16:
        return f"its batches are multiples of 16, not {recipe.optimiser.batch}"
    return None


def _is_worthwhile(recipe: Recipe) -> bool:
    """Whether the recipe's network computes with less than half of its weights, at least in later stages."""
    return get_family(recipe.family).is_masked and recipe.options["keep_ratio"] < SPARSE_BELOW


def make_engine(name: str, model: Classifier, recipe: Recipe, share: Share, compiled: bool = False) -> Engine:
    """Return the engine called `name`, a result of `resolve_engine`, for the recipe's model on its device."""
    dense = DenseEngine(model, share, recipe.optimiser.batch, recipe.attack.faithful, compiled)
    if name == "dense":
        return dense
    from model_zoo.training.sparse_engine import SparseEngine

    return SparseEngine(model, dense)


def _precision(device: str, faithful: bool) -> tuple[Callable[[], AbstractContextManager[object]], str]:
    """bfloat16 autocast if the device computes in it; float32 otherwise (emulated bfloat16 would be slower) and in faithful runs."""
    if faithful:
        fast = False
    elif device == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        fast = torch.cuda.is_bf16_supported()
    if not fast:
        return nullcontext, "float32"
    return lambda: torch.autocast(device, torch.bfloat16), "bfloat16 autocast"
