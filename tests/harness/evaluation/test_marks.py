"""Tests of marks: which flags of a unit are shown beside its number."""

from fractions import Fraction

import pandas as pd
import pytest
import torch
from torch import nn

from harness import attacks, datasets
from harness.evaluation.marks import MARKS, MASKING, in_words, marks, union
from harness.evaluation.unit import evaluate_unit
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

BASE = load_model("cifar10-rn8s29-dense")


def outcomes(square: int, correct: int = 250, n: int = 250) -> pd.DataFrame:
    labels = pd.Series(0, index=range(n))
    clean = labels.where(labels.index < correct, 1)
    return pd.DataFrame({"label": labels, "clean_prediction": clean, "broken_by": ["square"] * square + [None] * (n - square)})


@pytest.mark.parametrize(
    ("message", "is_marked"),
    [
        ("1 of 94 images had a zero gradient of the margin at the start point", False),
        ("5 of 94 images had a zero gradient", True),
        ("there are 1 points with zero gradient! This might lead to unreliable evaluation", False),
        ("there are 60 points with zero gradient!", True),
        ("no number at all", True),
    ],
)
def test_zero_gradients_of_a_few_images_set_no_mark(message: str, is_marked: bool) -> None:
    assert marks([("zero-gradient", message)], outcomes(0, correct=100), "pgd") == (("zero-gradient",) if is_marked else ())


def test_square_sets_a_mark_if_it_breaks_more_images_than_chance_allows() -> None:
    assert marks([], outcomes(2), "autoattack") == () and marks([], outcomes(6), "autoattack") == ("black-box-better",)
    assert marks([], outcomes(6), "square") == (), "Square as the attack itself tests no gradients"
    assert marks([("square-helps", "x"), ("other", "y")], outcomes(0), "pgd") == ()


def test_marks_are_merged_in_a_fixed_order_and_have_descriptions() -> None:
    assert union(["non-finite, saturated", "", "zero-gradient"]) == ("zero-gradient", "saturated", "non-finite")
    assert all(mark in MARKS for mark in MASKING) and in_words(["saturated"]) == MARKS["saturated"]


class Masked(nn.Module):
    """A shipped network whose gradients are masked by the method `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = BASE, how
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.how == "rounded":
            images = (images * 255).round() / 255
        logits: torch.Tensor = self.net(images.detach() if self.how == "detached" else images)
        if self.how == "saturated":
            logits = 1e4 * logits
        return logits + 0.0 * images.sum((1, 2, 3))[:, None] if self.how == "detached" else logits


@pytest.mark.parametrize(
    ("how", "expected"), [("", ()), ("rounded", ("zero-gradient",)), ("detached", ("zero-gradient",)), ("saturated", ("saturated",))]
)
@pytest.mark.parametrize("attack", ["pgd", "cw-linf"])
def test_masked_gradients_are_marked_under_every_attack(how: str, expected: tuple[str, ...], attack: str) -> None:
    block = datasets.load("cifar10-sample").first(20)
    outcome = evaluate_unit(Masked(how), block, ThreatModel("Linf", Fraction(8, 255)), attacks.get(attack), 0)
    assert marks(outcome.flags, outcome.frame, "pgd") == expected
