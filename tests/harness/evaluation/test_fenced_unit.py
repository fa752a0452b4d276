"""Tests of units of users' networks: misbehaving networks are errors, and non-finite logits count as broken."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from harness import attacks, datasets
from harness.evaluation.consistency import classify_again
from harness.evaluation.gates import check_model
from harness.evaluation.outcomes import UnitOutcome
from harness.evaluation.unit import evaluate_unit
from model_zoo.errors import RefusedError, UserCodeError
from model_zoo.fence import Fenced
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

BASE = load_model("cifar10-rn8s29-dense")
BLOCK = datasets.load("cifar10-sample").first(20)
THREAT = ThreatModel("Linf", Fraction(8, 255))


def off_grid(images: torch.Tensor) -> torch.Tensor:
    return ((images * 255) - (images * 255).round()).abs().flatten(1).amax(1) > 0.01


class Net(nn.Module):
    """A shipped network; subclasses change its behaviour."""

    def __init__(self) -> None:
        super().__init__()
        self.net = BASE
        self.register_buffer("count", torch.zeros(1))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(images)
        return logits


class Remembers(Net):
    """Returns, for an image near an earlier one, the logits of the earlier one."""

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.net(images)
        answers = []
        for image, row in zip(images.detach(), logits, strict=True):
            similar = [answer for query, answer in self.answered if float((query - image).abs().max()) < 0.07]
            if not similar:
                self.answered.append((image.clone(), row.detach().clone()))
            answers.append(0.01 * row + (similar[0] if similar else row.detach()))
        return torch.stack(answers)


class RemembersClasses(Net):
    """Predicts for a whole neighbourhood the class of its first image, with a margin that small steps do not overcome."""

    keys = torch.zeros(0, 3 * 32 * 32)
    classes = torch.zeros(0, dtype=torch.int64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, queries = self.net(images), images.detach().flatten(1)
        is_new = (torch.cdist(queries, self.keys) > 2.0).all(1)
        self.keys = torch.cat([self.keys, queries[is_new]])
        self.classes = torch.cat([self.classes, logits.argmax(1)[is_new]])
        nearest = self.classes[torch.cdist(queries, self.keys).argmin(1)]
        return logits + 5.0 * nn.functional.one_hot(nearest, logits.shape[1])


class Counts(Net):
    """Counts its calls in a buffer."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return super().forward(images)


class OnGrid(Net):
    """Predicts another class if pixels are not multiples of 1/255."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return torch.where(off_grid(images)[:, None], 5 * logits.roll(1, 1), logits)


class NoNumbers(Net):
    """Returns NaN logits if pixels are not multiples of 1/255."""

    value = float("nan")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return torch.where(off_grid(images)[:, None], self.value * logits.abs(), logits)


class Infinite(NoNumbers):
    """Returns an infinite logit of class 0 if pixels are not multiples of 1/255."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = Net.forward(self, images)
        return logits + torch.where(off_grid(images)[:, None], torch.tensor([float("inf"), *([0.0] * 9)]), 0.0)


class Large(Net):
    """Returns different logits for batches that require gradients and have a size that the gates do not use."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits.roll(1, 1) if images.requires_grad and len(images) not in (1, 7, 16) else logits


class Differentiated(Net):
    """Returns different logits if the image requires gradients and is off the pixel grid."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return torch.where(off_grid(images)[:, None] & images.requires_grad, logits.roll(1, 1), logits)


class Backward(torch.autograd.Function):
    """Identity whose backward pass raises SystemExit."""

    @staticmethod
    def forward(ctx: object, images: torch.Tensor) -> torch.Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)


class Leaves(Net):
    """Raises SystemExit as soon as a backward pass runs."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(Backward.apply(images))


class Later(Net):
    """Raises SystemExit at its 40th call."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 40:
            raise SystemExit(0)
        return super().forward(images)


def unit(kind: Callable[[], nn.Module], attack: str = "pgd") -> UnitOutcome:
    return evaluate_unit(Fenced(kind(), kind), BLOCK, THREAT, attacks.get(attack), 0)


@pytest.mark.parametrize("attack", ["pgd", "cw-linf"])
def test_a_sound_network_has_the_same_outcome_with_and_without_a_fence(attack: str) -> None:
    plain = evaluate_unit(BASE, BLOCK, THREAT, attacks.get(attack), 0).frame
    assert unit(Net, attack).frame.equals(plain) and 0 < plain["robust"].sum() < len(plain)


@pytest.mark.parametrize("attack", ["pgd", "cw-linf"])
def test_a_network_that_memorises_logits_is_rejected(attack: str) -> None:
    with pytest.raises(RefusedError, match=r"at fault: rebuilt and queried|earlier calls"):
        unit(Remembers, attack)


@pytest.mark.parametrize("attack", ["pgd", "autoattack-l2"])
def test_a_network_that_memorises_classes_is_rejected_under_every_norm(attack: str) -> None:
    spec = attacks.get(attack)
    threat = THREAT if attack == "pgd" else ThreatModel("L2", Fraction(3, 2))
    if attack == "autoattack-l2":
        spec = replace(spec, parameters={**spec.parameters, "components": ["apgd-ce"]})
    assert evaluate_unit(BASE, BLOCK, threat, spec, 0).frame["robust"].sum() < 12
    with pytest.raises(RefusedError, match=r"at fault: rebuilt and queried|earlier calls"):
        evaluate_unit(Fenced(RemembersClasses(), RemembersClasses), BLOCK, threat, spec, 0)


def test_a_rebuilt_network_is_evaluated_per_image_and_in_reverse_order() -> None:
    images, _ = BLOCK.tensors()
    predictions = classify_again(Fenced(Net(), Net), images, BASE(images))
    assert predictions.shape == (2, 20) and (predictions == BASE(images).argmax(1)).all()
    with pytest.raises(RefusedError, match=r"rebuilt .* for 20 of 20 images"):
        classify_again(Fenced(Net(), Net), images, BASE(images).roll(1, 1))


def test_a_network_that_changes_its_buffers_is_rejected() -> None:
    with pytest.raises(RefusedError, match="at fault: the attack changed its parameters or buffers"):
        unit(Counts)


@pytest.mark.parametrize("kind", [Large, Differentiated])
def test_a_network_that_detects_attacks_is_rejected(kind: type[Net]) -> None:
    with pytest.raises(RefusedError, match="depend"):
        unit(kind)


def test_a_network_that_detects_the_pixel_grid_is_rejected() -> None:
    with pytest.raises(RefusedError, match="multiples of 1/255"):
        check_model(Fenced(OnGrid()), BLOCK.tensors()[0], 10)


@pytest.mark.parametrize("attack", ["pgd", "cw-linf"])
@pytest.mark.parametrize("kind", [NoNumbers, Infinite])
def test_non_finite_logits_break_the_image_and_flag_the_unit(kind: type[Net], attack: str) -> None:
    outcome = unit(kind, attack)
    assert not outcome.at_fault and "non-finite" in dict(outcome.flags)
    assert not outcome.frame["robust"].any() and not outcome.frame["robust_to_seen"].any()


@pytest.mark.parametrize(("kind", "words"), [(Leaves, "SystemExit: 0"), (Later, "SystemExit: 0")])
def test_an_exception_in_forward_or_backward_is_a_user_code_error(kind: type[Net], words: str) -> None:
    with pytest.raises(UserCodeError, match=words) as raised:
        unit(kind)
    assert "SystemExit" in raised.value.trace
