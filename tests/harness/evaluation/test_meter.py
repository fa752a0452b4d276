"""The meter counts passes for the image they were for."""

import torch
from torch import nn

from harness.evaluation.meter import Meter

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def meter() -> Meter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval().requires_grad_(False)
    return Meter(model, IMAGES)


def perturbed(rows: list[int]) -> torch.Tensor:
    noise = torch.randint(0, 2, (len(rows), 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return (IMAGES[rows] + noise * 8 / 255).clamp(0, 1)


def test_logits_are_the_models() -> None:
    metered = meter()
    assert torch.equal(metered(IMAGES), metered.model(IMAGES))


def test_whole_batches_and_reordered_survivors_count_for_their_images() -> None:
    metered = meter()
    metered(IMAGES)
    metered(perturbed([4, 1]))
    metered(perturbed([4]))
    assert metered.forwards.tolist() == [1, 2, 1, 1, 3, 1]
    assert metered.backwards.tolist() == [0] * 6


def test_a_backward_pass_counts_when_a_gradient_reaches_the_logits() -> None:
    metered = meter()
    queries = perturbed([5, 0]).requires_grad_(True)
    metered(queries).sum().backward()
    metered(queries)
    assert metered.forwards.tolist() == [2, 0, 0, 0, 0, 2]
    assert metered.backwards.tolist() == [1, 0, 0, 0, 0, 1]


def test_the_meter_has_the_models_mode() -> None:
    assert not meter().training
