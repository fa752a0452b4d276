"""Decoupled direction and norm (DDN, Rony et al., arXiv 1811.09600), a minimum-norm attack in L2, from secml-torch."""

from __future__ import annotations

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.packages.secml import EXTRA, minimise, passes_of_steps
from harness.attacks.parameters import Count, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from model_zoo.errors import UsageError


class Parameters(BaseParameters):
    """`first_distance` is the length of the first perturbation; `gamma` is the relative change of the length per step."""

    steps: Count
    first_distance: Size
    gamma: Size
    batch_size: Count


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes for an image, twice: they are the same whether it is broken or not."""
    return passes_of_steps(parameters.steps)


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run DDN, see `secml.minimise`. It draws no random numbers.

    Raises
    ------
    UsageError
        If the norm of the threat model is not L2.
    """
    from secmlt.adv.evasion.ddn import DDNNative

    if call.threat.norm != "L2":
        raise UsageError(f"DDN is for L2, not for {call.threat}")

    def new_attack() -> DDNNative:
        return DDNNative(num_steps=parameters.steps, eps_init=parameters.first_distance, gamma=parameters.gamma)

    return minimise(call, new_attack, "ddn", parameters.steps, parameters.batch_size)


ADAPTER = Adapter("secml-ddn", version=1, parameters=Parameters, attack=attack, package="secml-torch", passes=passes, extra=EXTRA)
