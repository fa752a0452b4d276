"""Tests that fingerprints differ if and only if networks compute something different."""

import pytest
import torch
from torch import nn

from model_zoo.fingerprint import differs, fingerprint
from model_zoo.loading import load_model


class Net(nn.Module):
    """A shipped network with logits multiplied by `scale`, and gradients by `scale` and `slope`."""

    def __init__(self, scale: float = 1.0, slope: float = 1.0) -> None:
        super().__init__()
        self.net = load_model("cifar10-rn8s29-dense")
        self.scale, self.slope = scale, slope

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(images)
        return self.scale * (self.slope * logits + (1 - self.slope) * logits.detach())


def test_a_fingerprint_is_reproducible_and_leaves_the_random_state_unchanged() -> None:
    state = torch.get_rng_state()
    first, second = fingerprint(Net(), 32), fingerprint(Net(), 32)
    assert first == second and not differs(first, second) and torch.equal(torch.get_rng_state(), state)
    assert [len(first[name]) for name in ("logits", "gradients")] == [16, 16] and len(first["logits"][0]) == 10


@pytest.mark.parametrize(
    ("net", "expected"), [(Net(1.01), True), (Net(1.0, 1.01), True), (Net(1.0 + 1e-5), False), (Net(1.0, 1 - 1e-5), False)]
)
def test_different_logits_or_gradients_give_different_fingerprints(net: Net, expected: bool) -> None:
    assert differs(fingerprint(net, 32), fingerprint(Net(), 32)) == expected


def test_a_different_number_of_classes_gives_a_different_fingerprint() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4))
    assert differs(fingerprint(flat, 32), fingerprint(Net(), 32))
