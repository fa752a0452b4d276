"""The standard version of AutoAttack (Croce and Hein, arXiv 2003.01690) from pyautoattack, run one component at a time.

The package does not report which component broke an image. Running the components one after the other on the surviving images shows
it and gives the same examples, because each component reseeds the generators and every batch contains the same images.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import ceil
from typing import ClassVar

import torch

from harness.attacks.common import Adapter, AttackCall, AttackResult
from harness.attacks.component_progress import CLEAN, ComponentProgress
from harness.attacks.packages.autoattack_flags import LOGGER, collected_flags
from harness.attacks.parameters import Count, Names, Size
from harness.attacks.parameters import Parameters as BaseParameters
from harness.attacks.passes import Passes
from harness.attacks.progress import counted
from model_zoo.errors import UsageError

# The targeted DLR loss divides by a difference that involves the fourth largest logit.
CLASSES_FOR_TARGETED_DLR = 4


class Parameters(BaseParameters):
    """Parameters that the package's version "standard" sets or leaves at their defaults.

    `components_for_few_classes` are run on models with fewer than four classes, for which the targeted DLR loss is not defined.
    `targets` is reduced to the number of other classes if it is larger. `apgd_restarts` and `fab_restarts` are per target.
    """

    components: Names
    components_for_few_classes: Names
    batch_size: Count
    targets: Count
    apgd_n_iter: Count
    apgd_restarts: Count
    apgd_rho: Size
    apgd_eot_iter: Count
    fab_n_iter: Count
    fab_restarts: Count
    fab_alpha_max: Size
    fab_eta: Size
    fab_beta: Size
    square_n_queries: Count
    square_restarts: Count
    square_p_init: Size
    square_loss: str
    square_rescale_schedule: bool

    # Number of radii at which one run of APGD works, each time from the end of the last one, the largest first.
    apgd_radii: ClassVar[int] = 1

    @property
    def targeted_restarts(self) -> int:
        """Restarts of the targeted APGD, per target."""
        return self.apgd_restarts

    @property
    def targeted_classes(self) -> int:
        """Number of target classes of the targeted APGD."""
        return self.targets


def attack(call: AttackCall, parameters: Parameters) -> AttackResult:
    """Run the components in order, each on the images that no earlier one broke; resume after those that `memory` contains.

    With the shipped specification, the result is bit for bit that of
    `AutoAttack(model, eps=threat.epsilon, seed=package_seed(seed)).run_standard_evaluation(images, labels, batch_size=250)`.

    Raises
    ------
    UsageError
        If the parameters name an unknown component, or are not those of the norm: L1 has its own adapter.
    """
    model, images, labels, threat = call.model, call.images, call.labels, call.threat
    if (threat.norm == "L1") != (parameters.apgd_radii > 1):
        raise UsageError(f"AutoAttack against {threat}: the adapter {'autoattack-l1' if threat.norm == 'L1' else 'autoattack'} is needed")
    with torch.no_grad():
        classes = model(images).shape[1]
    components = parameters.components if classes >= CLASSES_FOR_TARGETED_DLR else parameters.components_for_few_classes
    for unknown in set(components) - _PASSES.keys():
        raise UsageError(f"AutoAttack has no component {unknown!r}; it has {', '.join(_PASSES)}")
    costs = {name: _PASSES[name](parameters, classes - 1) for name in components}

    state = ComponentProgress.begin(images, components, call.memory)
    accuracy = {"clean": 1.0}
    finished_cost = 0
    with collected_flags(state.flags) as collector:
        for index, name in enumerate(components):
            survivors = state.survivors(index)
            if name in state.done:
                finished_cost += costs[name]
                accuracy[name] = len(state.survivors(index + 1)) / len(images)
                continue
            if not len(survivors):
                break
            expected = costs[name] * ceil(len(survivors) / parameters.batch_size)
            with counted(model, call.progress, name, expected, finished_cost / sum(costs.values()), costs[name] / sum(costs.values())):
                x, y = images[survivors], labels[survivors]
                examples, predictions = run_component(
                    name, model, x, y, threat.epsilon, package_seed(call.seed), norm=threat.norm, classes=classes, parameters=parameters
                )
            finished_cost += costs[name]
            state.take(index, survivors, examples, predictions != y)
            accuracy[name] = len(state.survivors(index + 1)) / len(images)
            state.done.append(name)
            state.flags = collector.flags
            state.save(call.memory)
        _check_square(accuracy)
    if call.progress is not None:
        call.progress(1.0, components[-1])
    # The runner attacks only what the model gets right, but next to a boundary that can depend on the batch.
    has_moved = (state.adversarial != images).flatten(1).any(1)
    state.broken_in[(state.broken_in < len(components)) & ~has_moved] = CLEAN
    return AttackResult(state.adversarial, state.broken_by(components), collector.flags)


def passes(parameters: Parameters, classes: int) -> tuple[Passes, Passes]:
    """Return the passes for an image that the first component breaks, and for one that survives all components."""
    components = parameters.components if classes >= CLASSES_FOR_TARGETED_DLR else parameters.components_for_few_classes
    costs = [Passes(_PASSES[name](parameters, classes - 1), _BACKWARDS[name](parameters, classes - 1)) for name in components]
    return costs[0], sum(costs, Passes(0, 0))


def package_seed(seed: int) -> int:
    """Return the package's seed for a unit's unsigned 64-bit `seed`: its low 32 bits.

    The package passes its seed to every generator that it uses, and not all of them accept more than 32 bits. torch's CPU generator
    uses only the low 32 bits, so that its state is the same as with the full seed.
    """
    return seed % 2**32


def run_component(
    name: str,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    seed: int,
    *,
    norm: str,
    classes: int,
    parameters: Parameters,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run one component; the result depends only on the arguments.

    The package reseeds the global generators and clears the trace function: call this inside `randomness.isolated`.

    Parameters
    ----------
    name : str
        "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t" or "square".
    images, labels : torch.Tensor
        float32 [N, 3, H, W] in [0, 1], contiguous, and int64 [N].
    epsilon : float
        Radius of the ball in `norm`.
    seed : int
        Unsigned 32-bit integer, from `package_seed`.
    classes : int
        Number of the model's logits.

    Returns
    -------
    tuple
        Examples [N, 3, H, W] (the clean image if the component did not break it) and their predictions, int64 [N].
    """
    import pyautoattack.checks
    from pyautoattack import AutoAttack
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.fab_pt import FABAttack_PT
    from pyautoattack.square import SquareAttack

    # The check for dynamic models counts into this module global and never resets it: one dynamic model taints all later ones.
    pyautoattack.checks.funcs.update(dict.fromkeys(pyautoattack.checks.funcs, 0))
    package = AutoAttack(model, attacks=[name], device=images.device, eps=epsilon, norm=norm, seed=seed, version="custom")
    # "custom" leaves other defaults in place than "standard" sets, and not all can be set afterwards: build the attacks anew.
    shared = {"eps": epsilon, "norm": norm, "seed": seed, "device": images.device, "verbose": False}
    apgd = {
        "n_iter": parameters.apgd_n_iter,
        "use_largereps": parameters.apgd_radii > 1,
        "rho": parameters.apgd_rho,
        "eot_iter": parameters.apgd_eot_iter,
        "logger": package.logger,
    }
    package.apgd = APGDAttack(model, n_restarts=parameters.apgd_restarts, **apgd, **shared)
    package.apgd_targeted = APGDAttack_targeted(
        model, n_target_classes=min(parameters.targeted_classes, classes - 1), n_restarts=parameters.targeted_restarts, **apgd, **shared
    )
    package.fab = FABAttack_PT(
        model,
        n_iter=parameters.fab_n_iter,
        n_restarts=parameters.fab_restarts,
        alpha_max=parameters.fab_alpha_max,
        eta=parameters.fab_eta,
        beta=parameters.fab_beta,
        n_target_classes=min(parameters.targets, classes - 1),
        **shared,
    )
    package.square = SquareAttack(
        model,
        n_queries=parameters.square_n_queries,
        n_restarts=parameters.square_restarts,
        p_init=parameters.square_p_init,
        loss=parameters.square_loss,
        resc_schedule=parameters.square_rescale_schedule,
        **shared,
    )
    examples, predictions = package.run_standard_evaluation(images, labels, batch_size=parameters.batch_size)
    return examples.detach(), predictions.detach()


def _check_square(accuracy: Mapping[str, float]) -> None:
    """Call the package's check of Square's success, which needs the accuracy after every component, so that it can warn."""
    from pyautoattack.checks import check_square_sr

    check_square_sr(dict(accuracy), logger=logging.getLogger(LOGGER))


# Backward passes of an image that is never broken, for a number of other classes.
_BACKWARDS: dict[str, Callable[[Parameters, int], int]] = {
    "apgd-ce": lambda parameters, _: parameters.apgd_restarts * _iterations(parameters),
    "apgd-dlr": lambda parameters, _: parameters.apgd_restarts * _iterations(parameters),
    "apgd-t": lambda parameters, others: min(parameters.targeted_classes, others) * parameters.targeted_restarts * _iterations(parameters),
    "fab": lambda parameters, _: parameters.fab_restarts * parameters.fab_n_iter * 9,
    "fab-t": lambda parameters, others: min(parameters.targets, others) * parameters.fab_restarts * parameters.fab_n_iter,
    "square": lambda parameters, _: 0,
}
# Forward passes of a batch with an image that is never broken, for progress; the package's checks of the model are left out.
_PASSES: dict[str, Callable[[Parameters, int], int]] = {
    "apgd-ce": lambda parameters, _: 1 + parameters.apgd_restarts * _iterations(parameters),
    "apgd-dlr": lambda parameters, _: 1 + parameters.apgd_restarts * _iterations(parameters),
    "apgd-t": lambda parameters, others: (
        1 + min(parameters.targeted_classes, others) * parameters.targeted_restarts * (_iterations(parameters) + 1)
    ),
    "fab": lambda parameters, _: 2 + parameters.fab_restarts * (2 * parameters.fab_n_iter + 2),
    "fab-t": lambda parameters, others: 2 + min(parameters.targets, others) * parameters.fab_restarts * (2 * parameters.fab_n_iter + 3),
    "square": lambda parameters, _: 1 + parameters.square_restarts * (parameters.square_n_queries + 2),
}


def _iterations(parameters: Parameters) -> int:
    """Return the gradients of one run of APGD, one per iteration and one at the start of each radius."""
    return parameters.apgd_n_iter + parameters.apgd_radii


ADAPTER = Adapter("autoattack", version=1, parameters=Parameters, attack=attack, package="pyautoattack", passes=passes)
