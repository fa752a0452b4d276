"""An external attack that moves every pixel by the radius."""

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.parameters import Parameters


class Shift(Parameters):
    """Parameters of the attack: the direction of the shift."""

    upwards: bool


def attack(call: AttackCall, parameters: Shift) -> AttackResult:
    """Move every pixel by the radius."""
    step = call.threat.epsilon if parameters.upwards else -call.threat.epsilon
    moved = (call.images + step).clamp(0.0, 1.0)
    broken = call.model(moved).argmax(1) != call.labels
    return AttackResult(moved, tuple("shift" if success else None for success in broken.tolist()))


ADAPTER = Adapter("shift", version=1, parameters=Shift, attack=attack)
