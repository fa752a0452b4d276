"""Tests of training runs on engine sparse: they resume, switch engines between stages and do not change global state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.errors import UsageError
from model_zoo.layers.masked import masked_layers
from model_zoo.training import trainer
from model_zoo.training.engine import Engine, make_engine
from model_zoo.training.trained import Step, Trained
from model_zoo.training.trainer import train
from tests.model_zoo.training.sparse_cases import FAMILIES, masked_recipe, numba
from tests.model_zoo.training.test_state import Killed, train_with_interruptions
from tests.model_zoo.training.tiny import SAMPLE


def are_equal(first: Trained, second: Trained) -> bool:
    """Return whether two runs have the same model and training losses."""
    state = second.model.state_dict()
    is_equal = all(torch.equal(tensor, state[name]) for name, tensor in first.model.state_dict().items())
    return is_equal and [record.train_loss for record in first.curve] == [record.train_loss for record in second.curve]


@numba
@pytest.mark.parametrize("family", [*FAMILIES, "harp", "lwm", "robust-bird", "flying-bird-plus"])
def test_a_killed_run_resumes_to_the_same_weights(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked_recipe(family)
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert uninterrupted.engine == "sparse"
    # An epoch has five steps: kill the run inside an epoch, at the end of one, and at the beginning of the next stage.
    assert are_equal(train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [2, 5, 6, 13], monkeypatch), uninterrupted)


@numba
def test_a_killed_run_on_two_threads_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, before = masked_recipe("pruned-binary"), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
        assert uninterrupted.threads == 2
        assert are_equal(train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [2, 5], monkeypatch), uninterrupted)
    finally:
        torch.set_num_threads(before)


@numba
@pytest.mark.parametrize("method", ["trades", "n-fgsm", "stored-step"])
def test_a_killed_run_of_another_method_resumes_to_the_same_weights(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = masked_recipe("pruned-binary", {"method": method, "steps": 2 if method == "trades" else 1})
    uninterrupted = train(chosen, SAMPLE.images, SAMPLE.labels)
    assert uninterrupted.engine == "sparse"
    assert are_equal(train_with_interruptions(chosen, tmp_path / "tiny.state.pt", [3, 5, 11], monkeypatch), uninterrupted)


@numba
def test_a_staged_method_is_dense_until_its_network_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_zoo.training.sparse_engine import SparseEngine

    chosen, calls = masked_recipe("hydra"), []
    created: list[SparseEngine] = []

    def make_and_record(*args: Any) -> Engine:
        created.append(make_engine(*args))  # type: ignore[arg-type]
        for name in ("attacked", "trained"):
            monkeypatch.setattr(created[0].dense, name, counting(name, getattr(created[0].dense, name)))
        return created[0]

    def counting(name: str, work: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(images: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            return work(images)

        return call

    passes: list[int] = []
    monkeypatch.setattr(trainer, "make_engine", make_and_record)
    train(chosen, SAMPLE.images, SAMPLE.labels, report=lambda event: passes.append(len(calls)) if isinstance(event, Step) else None)
    # The dense engine makes the training passes of the first epoch's five steps, and the first attack, before which no statistics exist.
    assert passes == [chosen.attack.steps + min(step, 5) for step in range(1, 16)]
    assert all(int(layer.mask.sum()) < 0.5 * layer.mask.numel() for layer in masked_layers(created[0].model))


@numba
def test_the_loss_is_close_to_that_of_the_dense_engine() -> None:
    chosen = masked_recipe("pruned-binary")
    sparse_run, dense_run = (train(chosen, SAMPLE.images, SAMPLE.labels, engine=engine) for engine in ("sparse", "dense"))
    assert (sparse_run.engine, dense_run.engine) == ("sparse", "dense")
    assert "training pass float32, weight gradients " in sparse_run.precision
    # The attacks use different statistics, which matters most in the first steps.
    assert sparse_run.curve[-1].train_loss == pytest.approx(dense_run.curve[-1].train_loss, rel=0.2)
    assert sparse_run.curve[-1].train_loss < sparse_run.curve[0].train_loss


@numba
@pytest.mark.parametrize("fails", [False, True])
def test_global_state_is_unchanged(fails: bool) -> None:
    from model_zoo.kernels.runner import flushes_denormals

    def die(event: object) -> None:
        if fails:
            raise Killed

    torch.manual_seed(11)
    state, threads, numbers = torch.get_rng_state(), torch.get_num_threads(), np.random.get_state()[1].copy()
    assert not flushes_denormals()
    try:
        train(masked_recipe("pruned-binary"), SAMPLE.images, SAMPLE.labels, report=die)
    except Killed:
        assert fails
    assert not flushes_denormals()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


@numba
def test_a_run_cannot_be_continued_with_another_engine(tmp_path: Path) -> None:
    chosen, path = masked_recipe("rst"), tmp_path / "tiny.state.pt"
    train(chosen, SAMPLE.images, SAMPLE.labels, state=path)
    with pytest.raises(UsageError, match="another"):
        train(chosen, SAMPLE.images, SAMPLE.labels, state=path, engine="dense")
