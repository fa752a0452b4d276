"""Evaluation of one unit: one model, one block of images, one threat model, one attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness import attacks
from harness.attacks.memory import Memory, Saved
from harness.attacks.spec import AttackSpec
from harness.datasets.base import ImageSet
from harness.evaluation.consistency import PROBE, check_consistent, classify_again
from harness.evaluation.meter import Meter
from harness.evaluation.outcomes import COLUMNS, KEPT_IMAGES, UnitOutcome
from harness.evaluation.probes import gradient_flags
from harness.evaluation.referee import device_of, judge, logits_of, predict
from harness.evaluation.subject import Subject, admit
from model_zoo.errors import RefusedError
from model_zoo.fence import Fenced
from model_zoo.surroundings import libraries_restored
from model_zoo.threat import ThreatModel
from model_zoo.user_code import user_code

Progress = Callable[[float, str], None]

# Intra-op threads per unit. More than one slows small batches down (AutoAttack on a dozen survivors took 203 s with two threads,
# 109 s with one); parallel processes use the other cores. Outcomes are promised for this number, so it is the same everywhere.
THREADS = 1


def evaluate_unit(
    model: nn.Module,
    block: ImageSet,
    threat: ThreatModel,
    spec: AttackSpec,
    seed: int,
    progress: Progress | None = None,
    *,
    backward: str = "exact",
    draws: tuple[int, int] | None = None,
    memory: Memory | None = None,
    attacked: nn.Module | None = None,
) -> UnitOutcome:
    """Attack the images of `block` that `model` classifies correctly, and return the outcome of every image.

    Parameters
    ----------
    model : nn.Module
        Frozen model in eval mode; maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes]. The unit is computed on its device.
    block : ImageSet
        The unit's images.
    seed : int
        Seed of the unit, unsigned 64-bit.
    progress : callable, optional
        Called with the fraction done and the attack's current component.
    backward, draws, attacked
        See `harness.evaluation.subject.admit`.
    memory : Memory, optional
        Keeps the state of an attack of several components, with the meter's counts, so that it can resume. The outcome does not depend
        on it.

    Raises
    ------
    RefusedError
        If a gate refuses the images or the model. A user's network (`model_zoo.fence.Fenced`) is also refused if the attack changes its
        state, or if a rebuilt copy gives other answers.
    UserCodeError
        If code of a user's network fails.
    """

    def run() -> UnitOutcome:
        subject = admit(model, block, backward=backward, draws=draws, attacked=attacked)
        return attack_block(subject, block, threat, spec, seed, progress, memory)

    return guarded(model, spec.name, run)


def guarded(model: nn.Module, name: str, run: Callable[[], UnitOutcome]) -> UnitOutcome:
    """Run a unit's evaluation with the threads that outcomes are promised for, and a user's network inside its fence.

    `name` is that of the attack or corruption, for error messages.
    """
    with unit_threads():
        return _run_fenced(model, name, run) if isinstance(model, Fenced) else run()


def _run_fenced(model: Fenced, attack: str, run: Callable[[], UnitOutcome]) -> UnitOutcome:
    """Run a unit of a user's network, and check its state afterwards because its backward passes run outside the fence."""
    with libraries_restored(), user_code(f"{attack} on the model failed"):
        hash_before = model.state_sha256()
        model.start()
        outcome = run()
        if model.state_sha256() != hash_before:
            raise RefusedError("model at fault: the attack changed its parameters or buffers")
    return outcome


class _MeteredMemory:
    """Memory that keeps the meter's counts together with the attack's state."""

    def __init__(self, memory: Memory, meter: Meter) -> None:
        self.memory, self.meter = memory, meter

    def load(self) -> Saved | None:
        saved = self.memory.load()
        if saved is not None:
            self.meter.restore({name.removeprefix("meter."): value for name, value in saved.tensors.items() if name.startswith("meter.")})
        return saved

    def save(self, saved: Saved) -> None:
        counts = {f"meter.{name}": value for name, value in self.meter.state().items()}
        self.memory.save(replace(saved, tensors={**saved.tensors, **counts}))


@contextmanager
def unit_threads() -> Iterator[None]:
    """Compute with `THREADS` threads and without TF32 convolutions, as outcomes are promised for; restore both settings on exit."""
    threads, convolutions = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(THREADS)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = convolutions


def attack_block(
    subject: Subject,
    block: ImageSet,
    threat: ThreatModel,
    spec: AttackSpec,
    seed: int,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> UnitOutcome:
    """Run one attack on a model that has passed the gates, with meter and referee; the parameters are those of `evaluate_unit`."""
    model = subject.judged
    images, labels = block.tensors()
    clean = predict(model, images)
    rows = (clean == labels).nonzero().flatten()

    adversarial, best_queries = images.clone(), images.clone()
    broken_by = np.full(len(block), None, dtype=object)
    forwards, backwards = (torch.zeros(len(block), dtype=torch.int64) for _ in range(2))
    non_finite = clean < 0
    flags: list[tuple[str, str]] = []
    if len(rows):
        device = device_of(model)
        x, y = images[rows].contiguous().to(device), labels[rows].to(device)
        meter = Meter(subject.attacked, x, y, threat)
        metered_memory = None if memory is None else _MeteredMemory(memory, meter)
        call = attacks.AttackCall(meter, x, y, threat, seed, progress, metered_memory)
        result = attacks.run(spec, call, len(block.classes))
        adversarial[rows], best_queries[rows] = result.adversarial.detach().to(images), meter.examples.to(images)
        broken_by[rows.numpy()] = result.broken_by
        forwards[rows], backwards[rows] = meter.forwards, meter.backwards
        flags += [(flag.kind, flag.message) for flag in result.flags]
        if subject.is_deterministic:
            flags += [flag for flag in gradient_flags(subject.attacked, x, y, threat) if flag[0] not in dict(flags)]
        non_finite[rows] = meter.non_finite
        # Attacks do not look for non-finite logits, which break an image as a wrong class does.
        non_finite_rows = rows[torch.isposinf(meter.margins)]
        adversarial[non_finite_rows], broken_by[non_finite_rows.numpy()] = best_queries[non_finite_rows], spec.name

    verdict = judge(model, images, adversarial, labels, threat)
    claimed = torch.from_numpy(np.array([component is not None for component in broken_by]))
    attacked = torch.zeros(len(block), dtype=torch.bool)
    attacked[rows] = True
    is_outside = attacked & ~verdict.legal if spec.bounded else claimed & ~verdict.legal
    if is_outside.any():
        image_list = ", ".join(str(block.index[row]) for row in is_outside.nonzero().flatten()[:5].tolist())
        flags.append(("at-fault", f"{int(is_outside.sum())} examples outside {threat} or the [0, 1] box (images {image_list})"))
    is_flip = attacked & verdict.legal & (claimed != verdict.broken)
    broken = attacked & verdict.broken
    broken_by_best = broken.clone()
    unjudged = (attacked & ~broken & (best_queries != images).flatten(1).any(1)).nonzero().flatten()
    if len(unjudged):
        broken_by_best[unjudged] = judge(model, images[unjudged], best_queries[unjudged], labels[unjudged], threat).broken
    if isinstance(model, Fenced) and len(rows):
        rejudged = _judge_rebuilt(model, images, adversarial, best_queries, labels, threat)
        broken |= attacked & verdict.legal & rejudged[0]
        broken_by_best |= broken | (attacked & rejudged[1])
    non_finite |= verdict.prediction < 0
    if non_finite.any():
        text = (
            f"logits of {int(non_finite.sum())} images, or of images near them, are NaN or infinite; within {threat} that counts as broken"
        )
        flags.append(("non-finite", text))
    component = ["clean" if not attacked[row] else (broken_by[row] or spec.name) if broken[row] else None for row in range(len(block))]
    frame = pd.DataFrame(
        {
            "image": block.index,
            "label": labels.numpy(),
            "clean_prediction": clean.numpy(),
            "adversarial_prediction": verdict.prediction.numpy(),
            "robust": (attacked & ~broken).numpy(),
            "robust_to_seen": (attacked & ~broken_by_best).numpy(),
            "broken_by": pd.Series(component, dtype="str"),
            "linf": verdict.linf.numpy(),
            "l2": verdict.l2.numpy(),
            "forwards": forwards.numpy(),
            "backwards": backwards.numpy(),
        }
    )[list(COLUMNS)]
    stored_rows = broken.nonzero().flatten()[:KEPT_IMAGES]
    perturbations = (adversarial[stored_rows] - images[stored_rows]).numpy().astype(np.float16)
    return UnitOutcome(frame, block.index[stored_rows.numpy()], perturbations, tuple(flags), bool(is_outside.any()), int(is_flip.sum()))


def _judge_rebuilt(
    model: Fenced, images: torch.Tensor, adversarial: torch.Tensor, best_queries: torch.Tensor, labels: torch.Tensor, threat: ThreatModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whether rebuilt networks misclassify each adversarial example and each best query, both bool [N]; refuse inconsistent ones."""
    is_finite = torch.isfinite(adversarial).flatten(1).all(1)
    adversarial = torch.where(is_finite[:, None, None, None], adversarial, images)
    changed = adversarial[(adversarial != images).flatten(1).any(1)][:PROBE]
    if len(changed):
        check_consistent(model, changed.to(device_of(model)))
    by_adversarial, _, by_best = (
        (classify_again(model, variant, logits_of(model, variant)) != labels).any(0) for variant in (adversarial, images, best_queries)
    )
    return by_adversarial, by_best & (best_queries != images).flatten(1).any(1)
