"""Tests of the meter: passes are attributed to the right image, and the best query per image is recorded."""

from fractions import Fraction

import torch
from torch import nn

from harness.evaluation.meter import Meter
from model_zoo.threat import ThreatModel

IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def meter() -> Meter:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval().requires_grad_(False)
    with torch.no_grad():
        labels = model(IMAGES).argmax(1)
    return Meter(model, IMAGES, labels, ThreatModel("Linf", Fraction(16, 255)))


def perturbed(rows: list[int]) -> torch.Tensor:
    noise = torch.randint(0, 2, (len(rows), 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return (IMAGES[rows] + noise * 8 / 255).clamp(0, 1)


def test_logits_are_unchanged() -> None:
    metered = meter()
    assert torch.equal(metered(IMAGES), metered.model(IMAGES))


def test_full_batches_and_reordered_survivors_count_for_their_images() -> None:
    metered = meter()
    metered(IMAGES)
    metered(perturbed([4, 1]))
    metered(perturbed([4]))
    assert metered.forwards.tolist() == [1, 2, 1, 1, 3, 1]
    assert metered.backwards.tolist() == [0] * 6


def test_a_backward_pass_is_counted_when_a_gradient_reaches_the_logits() -> None:
    metered = meter()
    queries = perturbed([5, 0]).requires_grad_(True)
    metered(queries).sum().backward()
    metered(queries)
    assert metered.forwards.tolist() == [2, 0, 0, 0, 0, 2]
    assert metered.backwards.tolist() == [1, 0, 0, 0, 0, 1]


def test_the_meter_has_the_mode_of_the_model() -> None:
    assert not meter().training


def pushed(metered: Meter, rows: list[int], size: float) -> torch.Tensor:
    """Return queries that lower the label's logit as fast as a step of `size` allows."""
    weight = metered.model[1].weight  # type: ignore[index]
    labels = metered.labels[rows]
    second = metered.model(IMAGES[rows]).topk(2).indices[:, 1]
    direction = (weight[second] - weight[labels]).sign().view(-1, 3, 32, 32)
    return (IMAGES[rows] + size * direction).clamp(0, 1)


def test_the_best_query_within_the_threat_model_is_recorded() -> None:
    metered = meter()
    near, far = pushed(metered, [2, 3], 12 / 255), pushed(metered, [2, 3], 16 / 255)
    outside = pushed(metered, [2, 3], 17 / 255)
    assert (metered.model(near).argmax(1) != metered.labels[[2, 3]]).all()
    for queries in (near, far, near, outside):
        metered(queries)
    assert torch.equal(metered.examples[[2, 3]], far)
    logits = metered.model(far)
    others = logits.scatter(1, metered.labels[[2, 3], None], -torch.inf).amax(1)
    assert torch.allclose(metered.margins[[2, 3]], others - logits.gather(1, metered.labels[[2, 3], None]).flatten())
    assert torch.equal(metered.examples[[0, 1, 4, 5]], IMAGES[[0, 1, 4, 5]])
    assert (metered.margins[[0, 1, 4, 5]] == -torch.inf).all()


def test_the_better_of_two_queries_in_a_batch_is_recorded() -> None:
    metered = meter()
    near, far = pushed(metered, [4], 12 / 255), pushed(metered, [4], 16 / 255)
    metered(torch.cat([far, near]))
    assert torch.equal(metered.examples[4], far[0])


def test_a_query_outside_the_box_is_not_recorded() -> None:
    metered = meter()
    queries = pushed(metered, [1], 16 / 255)
    queries[0, 0, 0, 0] = -1e-3
    metered(queries)
    assert torch.equal(metered.examples[1], IMAGES[1])


def test_repeated_images_in_a_full_size_batch_are_counted_each() -> None:
    metered = meter()
    metered(perturbed([3, 3, 3, 0, 0, 5]))
    assert metered.forwards.tolist() == [2, 0, 0, 3, 0, 1]


def test_images_in_order_count_once_even_if_two_have_moved_to_other_images() -> None:
    metered = meter()
    queries = perturbed([0, 1, 2, 3, 4, 5])
    queries[[1, 2]] = IMAGES[[4, 5]]
    metered(queries)
    assert metered.forwards.tolist() == [1] * 6


def test_a_restored_meter_continues() -> None:
    first, second = meter(), meter()
    first(pushed(first, [2, 3], 12 / 255))
    second.restore(first.state())
    second(pushed(second, [2], 16 / 255))
    assert second.forwards.tolist() == [0, 0, 2, 1, 0, 0] and first.forwards.tolist() == [0, 0, 1, 1, 0, 0]
    assert second.margins[2] > first.margins[2] and torch.equal(second.examples[3], first.examples[3])


def test_a_changed_selection_of_the_same_size_is_detected() -> None:
    metered = meter()
    for rows in ([4, 1], [4, 1], [4, 2], [2, 4]):
        metered(perturbed(rows))
    assert metered.forwards.tolist() == [0, 2, 2, 0, 4, 0]


def test_an_iterate_close_to_another_image_counts_for_that_image() -> None:
    metered = meter()
    metered(IMAGES[[0, 3]])
    metered(torch.lerp(IMAGES[[0, 3]], IMAGES[[1, 3]], 0.6))
    assert metered.forwards.tolist() == [1, 1, 0, 2, 0, 0]


def test_under_l1_only_queries_whose_summed_change_is_inside_the_radius_are_recorded() -> None:
    linf = meter()
    metered = Meter(linf.model, IMAGES, linf.labels, ThreatModel("L1", Fraction(12)))
    rows = list(range(6))
    direction = pushed(linf, rows, 1e-3) - IMAGES
    dense = (IMAGES + 0.02 * direction.sign()).clamp(0, 1)
    # One pixel in fifteen, each moved fifteen times as far as the radius allows if all were moved.
    sparse = torch.where(torch.arange(3072).view(3, 32, 32) % 15 == 0, (IMAGES + 0.058 * direction.sign()).clamp(0, 1), IMAGES)
    for queries, is_inside in ((dense, False), (sparse, True)):
        is_wrong = metered(queries).argmax(1) != metered.labels
        assert is_wrong.any()
        assert ((queries - IMAGES).abs().flatten(1).sum(1) <= 12).eq(is_inside).all()
        assert torch.equal(torch.isfinite(metered.margins), is_wrong & is_inside)
