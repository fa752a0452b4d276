"""Training engines: the interface between the trainer and the code that evaluates the network.

The dense engine is plain PyTorch. Other engines may compute the same network faster; a run stores the name of its engine and can be
resumed only with the same engine.
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
from model_zoo.layers.activations import DEFAULT
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.recipe import Recipe
from model_zoo.training.sharing import Share, shared

ENGINES = ("auto", "dense", "sparse")
INSTALL_FAST = "pip install 'robust-binary-harness[fast]'"
# Networks that keep less than this fraction of their weights are computed by the sparse kernels, others densely.
SPARSE_BELOW = 0.5


class Engine(ABC):
    """Interface of an engine: logits for the attack, logits whose gradient reaches the parameters, and logits of the frozen network.

    Attributes
    ----------
    name : str
        Name of the engine, "dense" for plain PyTorch. A resumed run must use the engine of its stored state.
    precision : str
        Arithmetic of `attacked` and `trained`, such as "float32" or "bfloat16 autocast".
    """

    name: str
    precision: str

    @abstractmethod
    def attacked(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] that the inner attack differentiates with respect to `images` [N, 3, H, W].

        Called inside `input_gradients_only`; the caller sets training or evaluation mode. In training mode, running statistics are updated
        with the batch norms' `momentum`, which `input_gradients_only` sets to zero if they must not change.
        """

    @abstractmethod
    def trained(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] whose gradient reaches the parameters; uses batch statistics and updates the running statistics.

        Also called without gradients, to recompute running statistics. Each batch norm then updates them with its current `momentum`, which
        may change between calls.
        """

    @abstractmethod
    def evaluated(self, images: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [N, classes] of the frozen network, computed with the running statistics.

        Gradients with respect to `images` can be computed, gradients of parameters cannot.
        """

    @abstractmethod
    def refresh(self) -> None:
        """Update all derived values; called after every change of parameters, masks or buffers.

        Such changes are an optimiser step, the beginning of an epoch, restoring a run, and replacing weights by their average.
        """

    def arithmetic(self) -> AbstractContextManager[object]:
        """Return a context manager in which the run's steps are computed; it does nothing by default."""
        return nullcontext()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that decide how the run continues and that the model does not hold; empty by default."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state` returned; by default, raises ValueError if `state` is not empty."""
        if state:
            raise ValueError(f"engine {self.name} has no state {sorted(state)[0]!r}")


class DenseEngine(Engine):
    """Plain PyTorch engine: every pass calls the model, which may be compiled and wrapped for several processes.

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
        self._wrapped = shared(self._network, share, batch)

    def attacked(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits for the inner attack; see `Engine.attacked`."""
        with self._autocast():
            logits: torch.Tensor = self._network(images)
        return logits

    def trained(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits for the training pass; see `Engine.trained`."""
        with self._autocast():
            logits: torch.Tensor = self._wrapped(images)
        return logits

    def evaluated(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits of the frozen network; see `Engine.evaluated`. The model's mode is restored afterwards."""
        training = self.model.training
        self.model.eval()
        try:
            with input_gradients_only(self.model):
                logits: torch.Tensor = self.model(images)
        finally:
            self.model.train(training)
        return logits

    def refresh(self) -> None:
        """Update masks and latent weights of all layers that have a `refresh` method."""
        refresh(self.model)


def refresh(model: nn.Module) -> None:
    """Call `refresh` of every module that has one; needed once per change of parameters, not once per forward pass."""
    for module in model.modules():
        update = getattr(module, "refresh", None)
        if update is not None:
            update()


def resolve_engine(recipe: Recipe, device: str, requested: str = "auto") -> str:
    """Return the name of the engine that trains `recipe` on `device`, by a fixed rule and never by a measurement.

    Parameters
    ----------
    recipe : Recipe
        The recipe to train.
    device : str
        "cpu" or "cuda".
    requested : str
        "auto", or the name of an engine.

    Raises
    ------
    UsageError
        If the engine does not exist, cannot train this recipe on this device, or needs numba and numba is not installed.
    """
    if requested not in ENGINES:
        raise UsageError(f"engine must be one of {', '.join(ENGINES)}, not {requested!r}")
    reason = _reason_against_sparse(recipe, device)
    if requested == "sparse" and reason is not None:
        raise UsageError(f"engine sparse cannot train recipe {recipe.id!r}: {reason}; use --engine dense")
    if requested == "dense" or (requested == "auto" and (reason is not None or not _is_worthwhile(recipe))):
        return "dense"
    if importlib.util.find_spec("numba") is None:
        raise UsageError(f"recipe {recipe.id!r} trains on engine sparse, which needs numba: {INSTALL_FAST}, or train with --engine dense")
    return "sparse"


def _reason_against_sparse(recipe: Recipe, device: str) -> str | None:
    """Return the reason why engine sparse cannot train the recipe, or None if it can."""
    if device != "cpu" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "it runs only on the CPU, in one process"
    architecture = str(recipe.architecture["name"])
    if not architecture.startswith("cifar-") or "resnet" not in architecture:
        return f"it supports only residual networks for CIFAR, not {architecture}"
    activation = recipe.architecture.get("activation", DEFAULT)
    if activation != "relu":
        return f"it supports only ReLU, not the activation {activation}"
    if recipe.architecture.get("head_bias"):
        return "it does not support a classifier with a bias"
    if recipe.attack.faithful:
        return "a faithful run attacks with the statistics of the attacked batch"
    if recipe.optimiser.batch % 16:
        return f"its batches must be multiples of 16, not {recipe.optimiser.batch}"
    return None


def _is_worthwhile(recipe: Recipe) -> bool:
    """Return whether the recipe's network computes with less than half of its weights, at least in later stages."""
    return get_family(recipe.family).is_masked and recipe.options["keep_ratio"] < SPARSE_BELOW


def make_engine(name: str, model: Classifier, recipe: Recipe, share: Share, compiled: bool = False) -> Engine:
    """Return the engine called `name`, a result of `resolve_engine`, for the recipe's model on its device."""
    dense = DenseEngine(model, share, recipe.optimiser.batch, recipe.attack.faithful, compiled)
    if name == "dense":
        return dense
    from model_zoo.training.sparse_engine import SparseEngine

    return SparseEngine(model, dense)


def _precision(device: str, faithful: bool) -> tuple[Callable[[], AbstractContextManager[object]], str]:
    """Return autocast and its name: bfloat16 if the device has it (emulation would be slower), float32 otherwise and in faithful runs."""
    if faithful:
        has_bfloat16 = False
    elif device == "cpu":
        has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    if not has_bfloat16:
        return nullcontext, "float32"
    return lambda: torch.autocast(device, torch.bfloat16), "bfloat16 autocast"
