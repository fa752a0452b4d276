"""Tests of the defining properties of each training method: the result of its attack, its changes of state, and its loss."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from model_zoo.errors import UsageError
from model_zoo.training.building import build_model
from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.methods import Method, Setting, get_method, method_names
from model_zoo.training.sampler import Batch, Sampler, cut
from model_zoo.training.sharing import Draws, Share
from tests.model_zoo.training.tiny import SAMPLE, recipe

EPSILON = 8 / 255
PIXELS = torch.from_numpy(SAMPLE.images.copy()).permute(0, 3, 1, 2).contiguous()


class Setup:
    """A method on an untrained network, with recorded inputs of its attacked and trained passes."""

    def __init__(
        self, name: str, steps: int = 1, step: float = EPSILON, faithful: bool = False, world: int = 1, progress: float = 0.5
    ) -> None:
        self.model = build_model(recipe()).train()
        self.attacked: list[torch.Tensor] = []
        self.trained: list[torch.Tensor] = []
        draws = Draws(torch.Generator().manual_seed(0), Share(0, world))

        def recording(inputs: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
            def forward(images: torch.Tensor) -> torch.Tensor:
                inputs.append(images.detach().clone())
                logits: torch.Tensor = self.model(images)
                return logits

            return forward

        kind = get_method(name)
        images = PIXELS[:100]
        attacked, trained = recording(self.attacked), recording(self.trained)
        setting = Setting(self.model, attacked, trained, EPSILON, step, steps, faithful, 6.0, images, draws, progress=progress)
        self.method: Method = kind(setting)
        labels = torch.from_numpy(SAMPLE.labels[:100].copy())
        self.sampler = Sampler(images, labels, 50, kind.crop(faithful), draws)

    def batch(self) -> Batch:
        return next(self.sampler.epoch())


def test_the_inner_attack_raises_the_loss_within_the_ball_without_side_effects() -> None:
    model = build_model(recipe()).train()
    images, labels = SAMPLE.first(40).tensors()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items() if "num_batches" not in name}
    with input_gradients_only(model):
        adversarial = pgd(model, images, labels, EPSILON, 6 / 255, 2, torch.rand(images.shape))
        with torch.no_grad():
            losses = [float(F.cross_entropy(model(batch), labels)) for batch in (images, adversarial)]
    assert float((adversarial - images).abs().max()) <= EPSILON + 1e-6
    assert float(adversarial.min()) >= 0.0 and float(adversarial.max()) <= 1.0
    assert losses[1] > losses[0]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert model.network.bn1.momentum == 0.1  # type: ignore[union-attr]


def test_the_returned_point_has_the_highest_loss_of_the_evaluated_ones() -> None:
    setup = Setup("pgd", steps=5, step=4 / 255, faithful=True)
    setup.model.eval()
    batch = setup.batch()
    setup.method.loss(batch)
    assert len(setup.attacked) == 5
    with torch.no_grad():
        losses = torch.stack([F.cross_entropy(setup.model(images), batch.labels, reduction="none") for images in setup.attacked])
        trained_loss = F.cross_entropy(setup.model(setup.trained[0]), batch.labels, reduction="none")
    assert torch.allclose(trained_loss, losses.max(0).values, atol=1e-5)


def test_only_faithful_attacks_change_the_running_statistics() -> None:
    for faithful, forwards in ((False, 1), (True, 4)):
        setup = Setup("pgd", steps=3, faithful=faithful)
        norm = setup.model.network.bn1  # type: ignore[union-attr]
        setup.method.loss(setup.batch())
        # After f updates of momentum 0.1, 0.9^f of the initial variance of 1 remains.
        variance = float(setup.model.network.last_bn.running_var.mean())  # type: ignore[union-attr,operator]
        assert isinstance(norm, torch.nn.BatchNorm2d) and norm.momentum == 0.1
        assert abs(variance - 1.0) > 0.01
        excess = setup.model.network.last_bn.running_var - 0.9**forwards  # type: ignore[union-attr,operator]
        assert float(excess.min()) > 0.0 and (forwards > 1 or float(excess.min()) < 0.9)


def test_pgd_with_one_step_of_five_quarters_of_the_radius_is_fgsm_rs() -> None:
    setup = Setup("pgd", steps=1, step=10 / 255)
    batch = setup.batch()
    loss, logits = setup.method.loss(batch)
    start = setup.attacked[0]
    with input_gradients_only(setup.model):
        point = start.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(setup.model(point), batch.labels), point)
    delta = (start + 10 / 255 * gradient.sign() - batch.images).clamp(-EPSILON, EPSILON)
    assert torch.allclose(setup.trained[0], (batch.images + delta).clamp(0, 1), atol=1e-6)
    assert torch.allclose(loss, F.cross_entropy(logits, batch.labels))


def test_n_fgsm_starts_within_twice_the_radius_and_does_not_project() -> None:
    setup = Setup("n-fgsm")
    batch = setup.batch()
    setup.method.loss(batch)
    (noisy,), (adversarial,) = setup.attacked, setup.trained
    assert 1.9 * EPSILON < float((noisy - batch.images).abs().max()) <= 2 * EPSILON + 1e-6
    assert 2.5 * EPSILON < float((adversarial - batch.images).abs().max()) <= 3 * EPSILON + 1e-6
    assert float(adversarial.min()) >= 0.0 and float(adversarial.max()) <= 1.0


def test_stored_perturbations_are_continued_aligned_with_their_images() -> None:
    setup = Setup("stored-step", step=4 / 255)
    canvas = setup.method.memory["perturbations"]
    before = canvas.clone()
    assert canvas.shape == (100, 3, 40, 40) and canvas.dtype == torch.float16
    assert 0.99 * EPSILON < float(canvas.abs().max()) <= EPSILON * 1.001
    batch = setup.batch()
    setup.method.loss(batch)
    # The attack starts at the stored perturbation of each image, cropped and flipped like the image.
    initial = (setup.attacked[0] - batch.images).abs()
    assert torch.allclose(
        setup.attacked[0], (batch.images + cut(before[batch.index].float(), batch.rows, batch.columns)).clamp(0, 1), atol=1e-6
    )
    assert float(initial.max()) > 0.5 * EPSILON
    # The final perturbation is stored, for the images of the batch only.
    final = cut(canvas[batch.index].float(), batch.rows, batch.columns)
    assert torch.allclose(setup.trained[0] - batch.images, final, atol=1e-4)
    others = torch.ones(100, dtype=torch.bool)
    others[batch.index] = False
    assert torch.equal(canvas[others], before[others])
    assert not torch.equal(canvas[batch.index], before[batch.index])


def test_faithful_fast_training_pads_with_grey_and_never_uses_the_last_offset() -> None:
    kind = get_method("stored-step")
    assert (kind.crop(True).value, kind.crop(True).offsets) == (0.5, 8)
    assert (kind.crop(False).value, kind.crop(False).offsets) == (0.0, 9)


def test_stored_perturbations_require_one_process() -> None:
    with pytest.raises(UsageError, match="between processes"):
        Setup("stored-step", world=2)


def test_trades_attacks_the_divergence_in_evaluation_mode_and_adds_it_to_the_loss() -> None:
    setup = Setup("trades", steps=3, step=4 / 255)
    with torch.no_grad():
        # With the initial running statistics, a network of +1 and -1 is saturated in evaluation mode.
        for _ in range(40):
            setup.model(PIXELS[:100].float() / 255)
    modes: list[bool] = []
    setup.model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    batch = setup.batch()
    loss, logits = setup.method.loss(batch)
    assert modes == [False] * 4 + [True] * 2 and setup.model.training
    assert float((setup.attacked[1] - batch.images).abs().max()) < 0.006
    clean, adversarial = setup.trained
    assert torch.equal(clean, batch.images)
    assert 0.4 * EPSILON < float((adversarial - clean).abs().max()) <= EPSILON + 1e-6
    with torch.no_grad(), input_gradients_only(setup.model):
        natural, robust = setup.model(clean).log_softmax(1), setup.model(adversarial).log_softmax(1)
        divergence = (natural.exp() * (natural - robust)).sum() / len(clean)
        expected = F.nll_loss(natural, batch.labels) + 6.0 * divergence
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)
    assert torch.allclose(logits.log_softmax(1), robust, atol=1e-5)


def test_every_method_decreases_its_loss() -> None:
    assert method_names() == ["clean", "n-fgsm", "nuat", "pgd", "stored-step", "trades"]
    for name in method_names():
        setup = Setup(name, step=4 / 255)
        optimiser = torch.optim.Adam(setup.model.parameters(), 0.02)
        batch = setup.batch()
        losses = []
        for _ in range(6):
            loss, _ = setup.method.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for module in setup.model.modules():
                getattr(module, "refresh", lambda: None)()
            losses.append(loss.item())
        assert losses[-1] < losses[0], name


def test_clean_training_runs_no_attack() -> None:
    setup = Setup("clean", steps=0, step=0.0)
    batch = setup.batch()
    loss, logits = setup.method.loss(batch)
    assert setup.attacked == [] and len(setup.trained) == 1
    assert torch.equal(setup.trained[0], batch.images)
    assert torch.equal(loss, F.cross_entropy(logits, batch.labels))


def update_statistics(setup: Setup) -> None:
    """Update running statistics until logits in evaluation mode are not saturated."""
    with torch.no_grad():
        for _ in range(40):
            setup.model(PIXELS[:100].float() / 255)


def test_nuat_takes_one_step_from_random_signs_of_half_the_radius_in_evaluation_mode() -> None:
    setup = Setup("nuat")
    update_statistics(setup)
    frozen = deepcopy(setup.model).eval()
    modes: list[bool] = []
    setup.model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    batch = setup.batch()
    setup.method.loss(batch)
    # The first batch is attacked with the cross-entropy alone, which needs no clean logits.
    assert modes == [False, True, True] and setup.model.training
    (start,), (adversarial, clean) = setup.attacked, setup.trained
    inside = (batch.images > 0.02) & (batch.images < 0.98)
    assert torch.allclose((start - batch.images).abs()[inside], torch.tensor(EPSILON / 2), atol=1e-6)
    assert torch.equal(clean, batch.images)
    assert float((adversarial - clean).abs().max()) <= EPSILON + 1e-6
    with input_gradients_only(frozen):
        point = start.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(frozen(point), batch.labels), point)
    expected = (batch.images + (start + EPSILON * gradient.sign() - batch.images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    assert torch.allclose(adversarial, expected, atol=1e-6)


def test_nuat_increases_the_nuclear_norm_in_every_second_batch() -> None:
    setup = Setup("nuat", progress=1.0)
    update_statistics(setup)
    setup.method.loss(setup.batch())
    setup.attacked.clear()
    setup.trained.clear()
    batch, frozen = setup.batch(), deepcopy(setup.model)
    setup.method.loss(batch)
    clean, start = setup.attacked
    assert torch.equal(clean, batch.images)
    with torch.no_grad(), input_gradients_only(frozen):
        reference = frozen(batch.images)
    with input_gradients_only(frozen.eval()):
        point = start.clone().requires_grad_(True)
        logits = frozen(point)
        objective = F.cross_entropy(logits, batch.labels) + 4.5 * torch.linalg.matrix_norm(logits - reference, "nuc") / len(logits)
        (gradient,) = torch.autograd.grad(objective, point)
        (plain_gradient,) = torch.autograd.grad(F.cross_entropy(frozen(point), batch.labels), point)
    expected = (batch.images + (start + EPSILON * gradient.sign() - batch.images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    # Signs of gradients close to zero may differ.
    assert float(((setup.trained[0] - expected).abs() > 1e-6).float().mean()) < 0.01
    assert float((gradient.sign() != plain_gradient.sign()).float().mean()) > 0.05


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.45, 2.25), (0.9, 4.5), (1.0, 4.5)])
def test_the_loss_of_nuat_is_clean_cross_entropy_plus_increasing_smoothness(progress: float, weight: float) -> None:
    setup = Setup("nuat", progress=progress)
    batch = setup.batch()
    loss, logits = setup.method.loss(batch)
    with torch.no_grad(), input_gradients_only(setup.model):
        robust, clean = setup.model(setup.trained[0]), setup.model(setup.trained[1])
        expected = F.cross_entropy(clean, batch.labels) + weight * torch.linalg.svdvals(robust - clean).sum() / len(clean)
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)
    assert torch.allclose(logits, robust, atol=1e-5)


def test_at_epoch_changes_the_strength_of_the_attack() -> None:
    setup = Setup("pgd", steps=1)
    setup.method.at_epoch(3, 2 / 255, 0.5)
    batch = setup.batch()
    setup.method.loss(batch)
    assert len(setup.attacked) == 3
    assert float((setup.attacked[1] - setup.attacked[0]).abs().max()) == pytest.approx(2 / 255, abs=1e-6)
