"""The fast minimum-norm attack (Pintor et al., arXiv 2102.12827) from secml-torch, in the norm of the threat model."""

from __future__ import annotations

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.packages.secml import EXTRA, minimise, passes_of_steps
from harness.attacks.parameters import Count, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes


class Parameters(BaseParameters):
    """`step_size` falls to `final_step_size` (cosine); `gamma` is the initial relative change of the distance per step."""

    steps: Count
    step_size: Size
    final_step_size: Size
    gamma: Size
    batch_size: Count


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes for an image, twice: they are the same whether it is broken or not."""
    return passes_of_steps(parameters.steps)


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run FMN, see `secml.minimise`. It draws no random numbers."""
    from secmlt.adv.evasion.fmn import FMNNative

    def new_attack() -> FMNNative:
        return FMNNative(
            call.threat.norm.lower(),
            num_steps=parameters.steps,
            max_step_size=parameters.step_size,
            min_step_size=parameters.final_step_size,
            gamma=parameters.gamma,
        )

    return minimise(call, new_attack, "fmn", parameters.steps, parameters.batch_size)


ADAPTER = Adapter("secml-fmn", version=1, parameters=Parameters, attack=attack, package="secml-torch", passes=passes, extra=EXTRA)
