"""What all attacks share: the call, the result, and the adapter that runs one kind of attack."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.attacks.parameters import Parameters
from model_zoo.errors import UsageError

if TYPE_CHECKING:
    import torch

    from harness.attacks.memory import Memory
    from harness.attacks.passes import Passes
    from model_zoo.threat import ThreatModel

P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, eq=False)
class AttackCall:
    """One attack on one batch of images that the model classifies correctly.

    Attributes
    ----------
    model : torch.nn.Module
        Frozen (eval mode, no parameter requires a gradient), float32 [N, 3, H, W] in [0, 1] to logits [N, classes].
    images, labels : torch.Tensor
        Float32 [N, 3, H, W] in [0, 1] and int64 [N], on the model's device.
    threat : ThreatModel
        Norm and radius.
    seed : int
        Unsigned 64-bit.
    progress : callable, optional
        Called with the fraction done, in [0, 1] and never falling, and the component at work.
    memory : Memory, optional
        Where an attack of several components stores its state and continues from; the result is the same as without.
    """

    model: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    threat: ThreatModel
    seed: int
    progress: Callable[[float, str], None] | None = None
    memory: Memory | None = None


@dataclass(frozen=True)
class Flag:
    """A warning as data: `kind` is one of a few fixed words ("zero-gradient", "square-helps", "dynamic"), `message` says more."""

    kind: str
    message: str


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Result that an attack claims; the referee decides.

    Attributes
    ----------
    adversarial : torch.Tensor
        Float32 [N, 3, H, W], the examples. For an image that was not broken, anything that the threat model allows (with an unbounded
        attack: anything in the box).
    broken_by : tuple of str or None
        For each image, the component whose example this is ("pgd", "apgd-ce"; "clean" if the model was wrong to begin with), or None if
        the attack claims no success.
    flags : tuple of Flag
        Warnings, one of each kind.
    """

    adversarial: torch.Tensor
    broken_by: tuple[str | None, ...]
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Adapter(Generic[P]):
    """Runner of the attacks of one kind, whatever their parameters.

    Attributes
    ----------
    name : str
        "torchattacks-pgd", as specifications name it.
    version : int
        Part of every unit's identity: changes when results change.
    parameters : type
        The model that the parameters of a specification must fit.
    attack : callable
        Runs on contiguous images, N at least 1. The global generators are seeded with the call's seed when it is called.
    package : str or None
        The third-party package, whose version is part of the identity; None for an attack of this project.
    passes : callable, optional
        Takes parameters and the number of classes; returns the most passes for an image that is broken at once and for one that survives.
    bind : callable, optional
        Fills in parameters that depend on the data's family and the hash of the attacked model's weights; raises a UsageError if the
        attack is not possible on that data.
    engine : str
        The engine that it runs on if none is asked for, see `harness.engines`.
    extra : str or None
        The extra of this project that installs the package; None if it is always installed.
    """

    name: str
    version: int
    parameters: type[P]
    attack: Callable[[AttackCall, P], AttackResult]
    package: str | None = None
    passes: Callable[[P, int], tuple[Passes, Passes]] | None = None
    bind: Callable[[P, str, str], Mapping[str, Any]] | None = None
    engine: str = "dense"
    extra: str | None = None

    def parse(self, values: Mapping[str, Any]) -> P:
        """Check the parameters of a specification; raises a UsageError for an unknown, a missing or a mistyped one."""
        return self.parameters.parse(values, self.name)

    def package_version(self) -> str | None:
        """Return the version of the installed package, None without a package; raises a UsageError if it is not installed."""
        if self.package is None:
            return None
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            hint = f"the extra: pip install 'robust-binary-harness[{self.extra}]'" if self.extra else f"the package {self.package}"
            raise UsageError(f"attack adapter {self.name!r} needs {hint} (missing: {self.package})") from None
