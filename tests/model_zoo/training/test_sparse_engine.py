"""Tests of engine sparse: it computes what the model computes, and its runs resume, stop and are refused as any other run."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.classifier import Classifier
from model_zoo.errors import UsageError
from model_zoo.families import families
from model_zoo.layers.masked import masked_layers
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d, top_mask
from model_zoo.training import trainer
from model_zoo.training.building import build
from model_zoo.training.engine import ENGINES, DenseEngine, Engine, make_engine, resolve_engine
from model_zoo.training.inner_attack import input_gradients_only
from model_zoo.training.recipe import Recipe
from model_zoo.training.sharing import Share
from model_zoo.training.trained import Step, Trained
from model_zoo.training.trainer import train
from tests.model_zoo.families.runs import BY_ADAM, OPTIONS, SGD
from tests.model_zoo.kernels.cells import difference
from tests.model_zoo.training.test_main import ALONE, toml
from tests.model_zoo.training.test_state import Killed, interrupted
from tests.model_zoo.training.tiny import SAMPLE, recipe

IMAGES, LABELS = SAMPLE.tensors()
BATCH = 48
numba = pytest.mark.needs_numba
MASKED = sorted(name for name, family in families().items() if family.is_masked)
FAMILIES = ["pruned-binary", "rst", "biprop", "flying-bird", "bcs", "hydra"]
# Index of the epoch, of three, in which the network is masked, if it is not the first.
MASKED_EPOCH = {"hydra": 1}


def masked(family: str, attack: dict[str, Any] | None = None, options: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Return a tiny recipe that engine sparse trains; `changes` apply to its architecture."""
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 8, "stem_stride": 2, "last_batch_norm": "plain"}
    kind = {"kind": "adam", "learning_rate": 0.01} if family in BY_ADAM else SGD
    top = {
        "options": {**OPTIONS[family], **(options or {})},
        "architecture": {**architecture, "normalisation": "cifar10", **changes},
        "data": {"dataset": "cifar10", "hold_out": 20, "images": 260},
    }
    return recipe(family, attack, top, batch=BATCH, epochs=3, **kind)


def engines(chosen: Recipe) -> tuple[Engine, DenseEngine]:
    """Return engine sparse and the float32 dense engine, on networks of the same weights in training mode and a masked stage."""
    pair = []
    for name in ("sparse", "dense"):
        model, controller = build(chosen)
        for epoch in (0, MASKED_EPOCH.get(chosen.family, 0)):
            controller.at_epoch(epoch, chosen.optimiser.epochs)
        engine = DenseEngine(model, Share(), BATCH, faithful=True) if name == "dense" else make_engine(name, model, chosen, Share())
        # Float16 cells are tested in test_short_cells.
        engine._attack_lanes = 16  # type: ignore[attr-defined]
        model.train()
        engine.refresh()
        pair.append(engine)
    assert pair[0]._is_sparse  # type: ignore[attr-defined]
    return pair[0], pair[1]  # type: ignore[return-value]


def batch(number: int) -> torch.Tensor:
    """Return the images of batch `number`, in the memory format that the trainer uses."""
    return IMAGES[number * BATCH : (number + 1) * BATCH].contiguous(memory_format=torch.channels_last)


def labels(number: int) -> torch.Tensor:
    return LABELS[number * BATCH : (number + 1) * BATCH]


def folded(model: Classifier, images: torch.Tensor) -> nn.Module:
    """Return a copy in evaluation mode whose running statistics are those of one batch, with the biased variance."""
    model = copy.deepcopy(model).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(_keep_statistics)
    with torch.no_grad():
        model(images)
    return model.eval()


def _keep_statistics(norm: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    if norm.training:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3), unbiased=False))


def logits_and_gradient(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    point = images.clone().requires_grad_(True)
    logits = forward(point)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, LABELS[: len(images)], reduction="sum"), point)
    return logits.detach(), gradient


def named_gradients(engine: Engine, number: int = 0) -> dict[str, torch.Tensor]:
    model = engine.model  # type: ignore[attr-defined]
    model.zero_grad()
    F.cross_entropy(engine.trained(batch(number)), labels(number)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@numba
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("last", ["plain", "affine", "none"])
def test_gradients_are_within_one_percent_of_autograds(family: str, last: str) -> None:
    sparse, dense = engines(masked(family, last_batch_norm=last))
    actual, expected = named_gradients(sparse), named_gradients(dense)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient.dim() == 4:
            assert difference(actual[name], gradient) < 0.01, name
        else:
            # Some gradients of batch norms' parameters vanish, such as that of a shift before another batch norm.
            assert difference(actual[name], gradient, 0.05 * len(gradient) ** 0.5) < 0.01, name


@numba
@pytest.mark.parametrize("architecture", ["cifar-resnet18", "cifar-resnet50"])
def test_so_are_those_of_a_deep_network(architecture: str) -> None:
    sparse, dense = engines(masked("pruned-binary", name=architecture))
    # Compare in float64, because PyTorch's float32 is itself 2 % off in so deep an untrained network.
    exact = copy.deepcopy(dense.model).double()
    for layer in exact.modules():
        if isinstance(layer, PrunedBinaryConv2d):
            layer.refresh()
    F.cross_entropy(exact(batch(0).double()), labels(0)).backward()
    actual = named_gradients(sparse)
    assert all(difference(actual[name], parameter.grad) < 0.01 for name, parameter in exact.named_parameters())


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_the_attacks_network_has_the_statistics_of_the_batch_before(family: str) -> None:
    sparse, dense = engines(masked(family))
    sparse.trained(batch(0))
    reference = folded(dense.model, batch(0))  # type: ignore[arg-type]
    for images in (batch(1), batch(2)[:10]):
        with input_gradients_only(sparse.model):  # type: ignore[attr-defined]
            logits, gradient = logits_and_gradient(sparse.attacked, images)
        expected, by_images = logits_and_gradient(reference, images)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert difference(gradient, by_images) < 5e-3


@numba
def test_the_first_attack_has_the_statistics_of_its_own_images_and_moves_nothing() -> None:
    sparse, dense = engines(masked("pruned-binary"))
    before = {name: tensor.clone() for name, tensor in sparse.model.state_dict().items()}  # type: ignore[attr-defined]
    expected, by_images = logits_and_gradient(folded(dense.model, batch(0)), batch(0))  # type: ignore[arg-type]
    logits, gradient = logits_and_gradient(sparse.attacked, batch(0))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert difference(gradient, by_images) < 1e-3
    assert all(torch.equal(tensor, before[name]) for name, tensor in sparse.model.state_dict().items())  # type: ignore[attr-defined]


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_the_evaluated_network_is_the_model_in_evaluation_mode(family: str) -> None:
    sparse, dense = engines(masked(family))
    for number in range(4):
        for engine in (sparse, dense):
            engine.trained(batch(number))
    reference = copy.deepcopy(dense.model).eval()
    for images in (IMAGES[:250], IMAGES[:7]):
        logits, gradient = logits_and_gradient(sparse.evaluated, images)
        expected, by_images = logits_and_gradient(reference, images)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert difference(gradient, by_images) < 5e-3
    sparse.model.eval()  # type: ignore[attr-defined]
    torch.testing.assert_close(sparse.attacked(IMAGES[:7]), expected, atol=1e-4, rtol=1e-4)


@numba
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_move_as_pytorchs(momentum: float | None) -> None:
    sparse, dense = engines(masked("flying-bird"))
    norms = [[module for module in engine.model.modules() if isinstance(module, nn.BatchNorm2d)] for engine in (sparse, dense)]  # type: ignore[attr-defined]
    for norm in norms[0] + norms[1]:
        norm.momentum = momentum  # type: ignore[assignment]
    for number in range(4):
        with torch.set_grad_enabled(number % 2 == 0):
            for engine in (sparse, dense):
                engine.trained(batch(number))
        for sparse_norm, dense_norm in zip(*norms, strict=True):
            assert sparse_norm.num_batches_tracked == dense_norm.num_batches_tracked == number + 1
            torch.testing.assert_close(sparse_norm.running_mean, dense_norm.running_mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(sparse_norm.running_var, dense_norm.running_var, rtol=1e-4, atol=1e-5)


@numba
def test_a_pass_without_gradients_leaves_its_tape_to_the_next() -> None:
    sparse, _ = engines(masked("pruned-binary"))
    for _ in range(3):
        with torch.no_grad():
            logits = sparse.trained(batch(0))
        assert not logits.requires_grad
        (passes,) = sparse._passes.values()  # type: ignore[attr-defined]
        assert len(passes._tapes) == 1


@numba
def test_a_tape_serves_one_backward_pass() -> None:
    sparse, _ = engines(masked("pruned-binary"))
    loss = F.cross_entropy(sparse.trained(batch(0)), labels(0))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@numba
def test_no_gradient_is_computed_with_the_weights_of_a_later_pass() -> None:
    sparse, _ = engines(masked("pruned-binary"))
    sparse.trained(batch(0))
    point = batch(1).requires_grad_(True)
    attacked = sparse.attacked(point).sum()
    (before,) = torch.autograd.grad(attacked, point, retain_graph=True)
    sparse.attacked(batch(2))  # weights and statistics are still the same
    assert torch.equal(torch.autograd.grad(attacked, point, retain_graph=True)[0], before)
    sparse.evaluated(batch(2))
    with pytest.raises(RuntimeError, match="have changed since the forward pass"):
        torch.autograd.grad(attacked, point)


@numba
def test_two_training_passes_before_one_backward_pass() -> None:
    sparse, dense = engines(masked("pruned-binary"))
    gradients = []
    for engine in (sparse, dense):
        first, second = engine.trained(batch(0)), engine.trained(batch(1))
        loss = F.cross_entropy(first, labels(0)) + 6.0 * F.kl_div(F.log_softmax(second, 1), F.softmax(first, 1), reduction="batchmean")
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in engine.model.named_parameters()})  # type: ignore[attr-defined]
    assert all(difference(gradients[0][name], gradient) < 0.01 for name, gradient in gradients[1].items())


@numba
@pytest.mark.parametrize("family", ["pruned-binary", "rst", "biprop"])
def test_masks_are_those_of_the_largest_scores(family: str) -> None:
    sparse, _ = engines(masked(family))
    layers = [layer for layer in sparse.model.modules() if isinstance(layer, PrunedBinaryConv2d)]  # type: ignore[attr-defined]
    # The seed gives no ties, because any of several equal scores may be kept.
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        with torch.no_grad():
            for layer in layers:
                layer.scores.add_(torch.randn(layer.scores.shape, generator=generator) * 10.0 ** -(step % 3))
        sparse.refresh()
        for layer in layers:
            assert torch.equal(layer.mask, top_mask(layer.scores, layer.kept))
            assert torch.equal(layer.effective_weight().detach(), layer.weights * layer.mask)
    with torch.no_grad():
        for layer in layers:
            layer.scores.copy_(layer.scores.mul(2.0).round())
    sparse.refresh()
    for layer in layers:
        # Any of several equal scores may be kept.
        kept, dropped = layer.scores.abs()[layer.mask > 0], layer.scores.abs()[layer.mask == 0]
        assert len(kept) == layer.kept and (not len(dropped) or kept.min() >= dropped.max())


@numba
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_computed_follows_the_weights(family: str) -> None:
    sparse, dense = engines(masked(family))
    for number in range(2):
        for engine in (sparse, dense):
            engine.trained(batch(number))
    values = torch.Generator().manual_seed(1)
    changed = {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=values) * tensor.abs().max()
        for name, tensor in dense.model.state_dict().items()
        if name.endswith(("scores", "weight", "bias"))
    }
    for engine in (sparse, dense):
        engine.model.load_state_dict({**engine.model.state_dict(), **changed})  # type: ignore[attr-defined]
        engine.refresh()
    expected, _ = logits_and_gradient(dense.evaluated, IMAGES[:20])
    torch.testing.assert_close(logits_and_gradient(sparse.evaluated, IMAGES[:20])[0], expected, atol=1e-3, rtol=1e-3)
    assert difference(sparse.trained(batch(3)).detach(), dense.trained(batch(3)).detach()) < 1e-3


@numba
def test_the_state_is_the_statistics_of_the_batch_before() -> None:
    chosen = masked("pruned-binary")
    sparse, restored = engines(chosen)[0], engines(chosen)[0]
    assert sparse.state() == {}
    sparse.trained(batch(0))
    restored.trained(batch(1))
    restored.restore(sparse.state())
    assert torch.equal(restored.attacked(batch(2)), sparse.attacked(batch(2)))
    restored.restore({})
    assert restored.state() == {}


def same(first: Trained, second: Trained) -> bool:
    """Return whether two runs have the same model and training losses."""
    state = second.model.state_dict()
    is_equal = all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())
    return is_equal and [record.train_loss for record in first.curve] == [record.train_loss for record in second.curve]


@numba
@pytest.mark.parametrize("family", [*FAMILIES, "harp", "lwm", "robust-bird", "flying-bird-plus"])
def test_a_killed_run_goes_on_to_the_same_weights(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked(family)
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert uninterrupted.engine == "sparse"
    # An epoch has five steps: kill the run inside one, at the end of one, and at the beginning of the next stage.
    assert same(interrupted(chosen, tmp_path / "tiny.state.pt", [2, 5, 6, 13], monkeypatch), uninterrupted)


@numba
def test_so_does_one_on_two_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, before = masked("pruned-binary"), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
        assert uninterrupted.threads == 2
        assert same(interrupted(chosen, tmp_path / "tiny.state.pt", [2, 5], monkeypatch), uninterrupted)
    finally:
        torch.set_num_threads(before)


@numba
@pytest.mark.parametrize("method", ["trades", "n-fgsm", "stored-step"])
def test_so_does_one_of_another_method(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked("pruned-binary", {"method": method, "steps": 2 if method == "trades" else 1})
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert uninterrupted.engine == "sparse"
    assert same(interrupted(chosen, tmp_path / "tiny.state.pt", [3, 5, 11], monkeypatch), uninterrupted)


@numba
def test_a_staged_method_is_dense_until_its_network_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_zoo.training.sparse_engine import SparseEngine

    chosen, calls = masked("hydra"), []
    created: list[SparseEngine] = []

    def remembered(*args: Any) -> Engine:
        created.append(make_engine(*args))  # type: ignore[arg-type]
        for name in ("attacked", "trained"):
            monkeypatch.setattr(created[0].dense, name, counted(name, getattr(created[0].dense, name)))
        return created[0]

    def counted(name: str, work: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(images: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            return work(images)

        return call

    passes: list[int] = []
    monkeypatch.setattr(trainer, "make_engine", remembered)
    train(chosen, SAMPLE.images, SAMPLE.labels, report=lambda event: passes.append(len(calls)) if isinstance(event, Step) else None)
    # The dense engine makes the training passes of the first epoch's five steps, and the first attack, before which no statistics exist.
    assert passes == [chosen.attack.steps + min(step, 5) for step in range(1, 16)]
    assert all(int(layer.mask.sum()) < 0.5 * layer.mask.numel() for layer in masked_layers(created[0].model))


@numba
def test_the_engine_trains_to_nearly_the_loss_of_the_dense_one() -> None:
    chosen = masked("pruned-binary")
    sparse_run, dense_run = (train(chosen, SAMPLE.images, SAMPLE.labels, engine=engine) for engine in ("sparse", "dense"))
    assert (sparse_run.engine, dense_run.engine) == ("sparse", "dense")
    assert "training pass float32, weight gradients " in sparse_run.precision
    # The attacks use different statistics, which matters most in the first steps.
    assert sparse_run.curve[-1].train_loss == pytest.approx(dense_run.curve[-1].train_loss, rel=0.2)
    assert sparse_run.curve[-1].train_loss < sparse_run.curve[0].train_loss


@numba
@pytest.mark.parametrize("fails", [False, True])
def test_global_state_is_left_as_it_was(fails: bool) -> None:
    from model_zoo.kernels.runner import flushes_denormals

    def die(event: object) -> None:
        if fails:
            raise Killed

    torch.manual_seed(11)
    state, threads, numbers = torch.get_rng_state(), torch.get_num_threads(), np.random.get_state()[1].copy()
    assert not flushes_denormals()
    try:
        train(masked("pruned-binary"), SAMPLE.images, SAMPLE.labels, report=die)
    except Killed:
        assert fails
    assert not flushes_denormals()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


@pytest.fixture
def absent_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "numba" else find_spec(name, *rest))
    yield


REFUSED: dict[str, tuple[Recipe, str]] = {
    "faithful": (masked("rst", {"faithful": True}), "faithful"),
    "batch": (recipe(batch=50), "multiples of 16, not 50"),
    "architecture": (masked("rst", name="imagenet-resnet18"), "not imagenet-resnet18"),
    "classifier": (masked("rst", head_bias=True), "no classifier with a bias"),
    "activation": (masked("rst", activation="sign-ste"), "ReLU, not the activation sign-ste"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_it_cannot_train_is_refused_by_name_and_left_to_the_dense_engine(reason: str, absent_numba: None) -> None:
    chosen, message = REFUSED[reason]
    with pytest.raises(UsageError, match=message) as refusal:
        resolve_engine(chosen, "cpu", "sparse")
    assert "--engine dense" in str(refusal.value) and repr(chosen.id) in str(refusal.value)
    # The dense engine is chosen without numba too, because it does not need it.
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "dense") == "dense"


@numba
@pytest.mark.parametrize("chosen", [recipe("dense", batch=48), masked("rst", options={"keep_ratio": 0.5})])
def test_networks_that_keep_half_are_trained_sparsely_only_if_asked(chosen: Recipe) -> None:
    assert (resolve_engine(chosen, "cpu"), resolve_engine(chosen, "cpu", "sparse")) == ("dense", "sparse")


@numba
@pytest.mark.parametrize("family", MASKED)
def test_networks_that_keep_less_than_half_are_trained_sparsely_on_the_cpu(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked(family)
    assert resolve_engine(chosen, "cpu") == resolve_engine(chosen, "cpu", "sparse") == "sparse"
    assert resolve_engine(chosen, "cpu", "dense") == "dense"
    assert resolve_engine(chosen, "cuda") == "dense"
    with pytest.raises(UsageError, match="on the CPU, in one process"):
        resolve_engine(chosen, "cuda", "sparse")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resolve_engine(chosen, "cpu") == "dense"
    with pytest.raises(UsageError, match="on the CPU, in one process"):
        resolve_engine(chosen, "cpu", "sparse")


@pytest.mark.parametrize("asked", ["auto", "sparse"])
def test_without_numba_the_extra_and_the_other_engine_are_named(asked: str, absent_numba: None) -> None:
    with pytest.raises(UsageError, match=r"needs numba: pip install 'robust-binary-harness\[fast\]', or train with --engine dense"):
        resolve_engine(masked("rst"), "cpu", asked)
    assert resolve_engine(masked("rst"), "cpu", "dense") == "dense"
    assert asked in ENGINES


def run(folder: Path, chosen: Recipe, *extra: str) -> subprocess.CompletedProcess[str]:
    """Train in a process without the project's other packages and without numba."""
    (folder / "tiny.toml").write_text(toml(chosen))
    np.savez(folder / "arrays.npz", x=SAMPLE.images, y=SAMPLE.labels)
    script = ALONE.replace("import runpy", "sys.modules['numba'] = sys.modules['llvmlite'] = None\nimport runpy")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, "tiny.toml", "--arrays", "arrays.npz", "--threads", "1", *extra]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_dense_recipe_imports_nothing_of_numba(tmp_path: Path) -> None:
    process = run(tmp_path, recipe("dense", batch=48, epochs=1))
    assert process.returncode == 0, process.stderr
    assert "epoch 1" in process.stderr


def test_a_sparse_recipe_without_numba_stops_in_one_line_and_trains_densely_if_told_to(tmp_path: Path) -> None:
    chosen = masked("rst")
    process = run(tmp_path, chosen)
    assert process.returncode == UsageError.exit_code
    assert process.stderr.startswith("error: ") and process.stderr.count("\n") == 1 and "--engine dense" in process.stderr
    process = run(tmp_path, chosen, "--engine", "dense")
    assert process.returncode == 0, process.stderr


@numba
def test_a_run_begun_on_one_engine_is_not_finished_on_the_other(tmp_path: Path) -> None:
    chosen, path = masked("rst"), tmp_path / "tiny.state.pt"
    train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
    with pytest.raises(UsageError, match="another"):
        train(chosen, SAMPLE.images, SAMPLE.labels, state=path, engine="dense")
