"""Adversarial training: from arrays and a recipe to a trained classifier and its curve; an interrupted run can be resumed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.errors import UsageError, UserError
from model_zoo.threat import ThreatModel
from model_zoo.training.averaging import ParameterAverage, epoch_sampler, recompute_statistics
from model_zoo.training.building import build, build_model
from model_zoo.training.curve import EpochRecord
from model_zoo.training.engine import make_engine, resolve_engine
from model_zoo.training.fitting import check_fits, check_runs
from model_zoo.training.hold_out import hold_out_accuracy
from model_zoo.training.methods import Setting, get_method
from model_zoo.training.methods.clean import clean_loss
from model_zoo.training.optimiser import make_optimiser
from model_zoo.training.recipe import Recipe
from model_zoo.training.sampler import Sampler, on_device
from model_zoo.training.schedule import learning_rate
from model_zoo.training.sharing import Draws, Share, joined
from model_zoo.training.starting import start_from, start_sha256
from model_zoo.training.state import arrays_sha256, check_same, read_state, restoring, write_state
from model_zoo.training.trained import Step, Trained, make_trained

# Minimum time between two stored states, in seconds and as a multiple of the time that storing takes.
SAVE_EVERY = 60.0
SAVE_SHARE = 50.0


def train(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    device: str = "cpu",
    report: Callable[[Step | EpochRecord], None] = lambda step: None,
    state: Path | None = None,
    compiled: bool = False,
    engine: str = "auto",
    test: tuple[np.ndarray, np.ndarray] | None = None,
    save_every: float | None = None,
) -> Trained:
    """Train the recipe's model adversarially and return it in eval mode.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    images, labels : np.ndarray
        The training split, uint8 [N, H, W, C] and integers [N]. The held-out images are taken from it.
    device : str
        "cpu" or "cuda". If `torchrun` started several processes, each takes one GPU and its part of every batch.
    report : callable, optional
        Called with a Step after every optimiser step, and with an EpochRecord after every epoch.
    state : Path, optional
        File in which the run is stored, about once a minute and after every epoch; a run that is already there is resumed. The weights are
        those of an uninterrupted run (on a CPU, with the same number of threads).
    compiled : bool
        Compile the network with `torch.compile`.
    engine : str
        "auto", or the name of an engine, see `model_zoo.training.engine.resolve_engine`.
    test : tuple of np.ndarray, optional
        Test images and labels, in the same format, evaluated after every epoch for the curve only; they do not influence selection.
    save_every : float, optional
        Seconds between two stored states within an epoch; by default `SAVE_EVERY`, or `SAVE_SHARE` times as long as storing takes.

    Raises
    ------
    UsageError
        If the recipe's network does not take such images, there are too few for the hold-out and one batch, test images do not match the
        training images, the engine cannot train the recipe, or the stored run has another recipe or other images.
    DamagedFileError
        If the stored run cannot be read.
    """
    with joined(device) as (share, local_device):
        run = _Run(recipe, images, labels, local_device, share, compiled, resolve_engine(recipe, local_device.type, engine), test)
        if state is not None and state.is_file():
            run.restore(state)
        with run.engine.arithmetic():
            run.continue_run(report, state if share.rank == 0 else None, save_every)
        return run.result()


def finished(recipe: Recipe, state: Path) -> Trained | None:
    """Return the result of a completed run from its stored state alone; None if it is not complete or not stored."""
    if not state.is_file():
        return None
    stored = read_state(state)
    with restoring(state):
        check_same(state, stored, {"recipe": recipe.to_dict()})
        if len(stored["curve"]) < recipe.optimiser.epochs:
            return None
        model = build_model(recipe)
        model.load_state_dict(stored["model"])
        return make_trained(model, [EpochRecord.restored(record) for record in stored["curve"]], stored["best"], stored["selected"], stored)


class _Run:
    """State of a training run, with methods to continue, store and restore it."""

    def __init__(
        self,
        recipe: Recipe,
        images: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        share: Share,
        compiled: bool,
        engine: str,
        test: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.recipe, self.share = recipe, share
        check_fits(recipe, images, labels)
        self.model, self.controller = build(recipe)
        check_runs(self.model, recipe, images)
        start_from(self.model, recipe)
        self.model = self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.controller.to(device)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        order = torch.randperm(len(images), generator=self.generator).numpy()[: recipe.data.images]
        if len(order) < recipe.data.hold_out + recipe.optimiser.batch:
            raise UsageError(f"{len(order)} training images are not enough for a hold-out of {recipe.data.hold_out} and one batch")
        pixels, targets = on_device(images[order], labels[order], device)
        classes = int(recipe.architecture["classes"])
        if test is not None and (test[0].shape[1:] != images.shape[1:] or int(test[1].max(initial=0)) >= classes):
            raise UsageError(f"test images must have the shape {list(images.shape[1:])} and the {classes} classes of the training images")
        self.test = None if test is None else on_device(*test, device)
        self.hold_out_images, self.hold_out_targets = pixels[: recipe.data.hold_out], targets[: recipe.data.hold_out]
        pixels, targets = pixels[recipe.data.hold_out :], targets[recipe.data.hold_out :]

        attack = recipe.attack
        self.engine = make_engine(engine, self.model, recipe, share, compiled)
        self.epsilon = ThreatModel.parse(attack.threat).epsilon
        draws = Draws(self.generator, share)
        method = get_method(attack.method)
        setting = Setting(
            model=self.model,
            attacked=self.engine.attacked,
            trained=self.engine.trained,
            epsilon=self.epsilon,
            step=attack.strength(0)[1],
            steps=attack.steps,
            faithful=attack.faithful,
            beta=attack.beta,
            nuclear_weight=attack.nuclear_weight,
            nuclear_ramp=attack.nuclear_ramp,
            noise=attack.noise,
            images=pixels,
            draws=draws,
        )
        self.method = method(setting)
        crop = dataclasses.replace(method.crop(attack.faithful), flip=recipe.data.flip)
        self.sampler = Sampler(pixels, targets, recipe.optimiser.batch, crop, draws)
        self.optimiser = make_optimiser(recipe.optimiser, self.model.parameters())
        self.average = ParameterAverage(self.model, recipe.average) if recipe.average else None
        # Facts that are constant during a run and must be the same when it is resumed.
        self.facts = {
            "recipe": recipe.to_dict(),
            "data": arrays_sha256(images, labels),
            "starting_weights": start_sha256(recipe),
            "images": len(images),
            "shape": [images.shape[3], *images.shape[1:3]],
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "threads": torch.get_num_threads(),
            "device": device.type,
            "processes": share.world,
        }
        self.curve: list[EpochRecord] = []
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.spent = 0.0
        self.best: dict[str, torch.Tensor] | None = None
        self.selected = 0

    def continue_run(self, report: Callable[[Step | EpochRecord], None], state: Path | None, save_every: float | None) -> None:
        """Train from the current position to the end."""
        options, per_epoch = self.recipe.optimiser, self.sampler.batches
        spent_before, started, last_save, save_seconds = self.spent, time.perf_counter(), time.perf_counter(), 0.0
        first_step = len(self.curve) * per_epoch + self.sampler.position
        for epoch in range(len(self.curve), options.epochs):
            self.controller.at_epoch(epoch, options.epochs)
            self.engine.refresh()
            if self.average is not None:
                self.average.at_epoch()
            self.method.at_epoch(*self.recipe.attack.strength(epoch), epoch / options.epochs)
            self.model.train()
            for batch in self.sampler.epoch():
                done = epoch * per_epoch + self.sampler.position
                rate = learning_rate(options, (done - 1) / per_epoch)
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                on_clean = self.controller.on_clean()
                loss, logits = clean_loss(self.engine.trained, batch) if on_clean else self.method.loss(batch)
                loss = loss + self.controller.penalty()
                if not torch.isfinite(loss.detach()):
                    raise UserError(
                        f"training diverged: the loss is {float(loss.detach())} in step {done} of {options.epochs * per_epoch}; "
                        "the last stored state is unchanged (try a lower learning rate)"
                    )
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                self.optimiser.step()
                self.controller.after_step(done / (options.epochs * per_epoch))
                self.engine.refresh()
                if self.average is not None:
                    self.average.update()
                self.sums += torch.stack([loss.detach(), (logits.argmax(1) == batch.labels).float().mean()])
                now = time.perf_counter()
                report(Step(done, options.epochs * per_epoch, (done - first_step) * options.batch / (now - started)))
                pause = max(SAVE_EVERY, SAVE_SHARE * save_seconds) if save_every is None else save_every
                if state is not None and now - last_save > pause:
                    self.spent = spent_before + now - started
                    self.save(state)
                    last_save = time.perf_counter()
                    save_seconds = last_save - now
            self.spent = spent_before + time.perf_counter() - started
            self._close_epoch(epoch + 1)
            self.controller.after_epoch(self.curve)
            report(self.curve[-1])
            if state is not None:
                self.save(state)
                last_save = time.perf_counter()

    def _close_epoch(self, epoch: int) -> None:
        """Evaluate the network, or its average, after `epoch` epochs, and copy it if it is the one to return."""
        rate = learning_rate(self.recipe.optimiser, (epoch * self.sampler.batches - 1) / self.sampler.batches)
        loss, correct = (self.sums / self.sampler.batches).tolist()
        with self._with_average(epoch):
            seed = self.recipe.seed
            clean, robust = hold_out_accuracy(self.engine, self.hold_out_images, self.hold_out_targets, self.epsilon, seed)
            test = (math.nan, math.nan) if self.test is None else hold_out_accuracy(self.engine, *self.test, self.epsilon, seed)
            self.curve.append(EpochRecord(epoch, rate, loss, correct, clean, robust, self.spent, *test))
            if self.recipe.select == "hold-out":
                is_selected = self.best is None or robust > self.curve[self.selected].hold_out_pgd_accuracy
            else:
                # Without an average, the network itself is the one to return, so it need not be copied.
                is_selected = self.average is not None and epoch == self.recipe.optimiser.epochs
            if is_selected:
                self.selected, self.best = epoch - 1, _cpu_state(self.model)
        self.sums.zero_()
        self.sampler.position = 0

    @contextmanager
    def _with_average(self, epoch: int) -> Iterator[None]:
        """Replace the network inside the block by its average with recomputed running statistics, if the recipe averages."""
        if self.average is None:
            yield
            return
        with self.average.in_place(self.engine):
            recompute_statistics(self.engine, self.model, epoch_sampler(self.sampler, self.recipe.seed, epoch), self.epsilon)
            self.engine.refresh()
            yield

    def save(self, path: Path) -> None:
        """Store everything that decides how the run continues."""
        state = {
            **self.facts,
            "model": _cpu_state(self.model),
            "controller": self.controller.state(),
            "engine_state": self.engine.state(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.sampler.order,
            "position": self.sampler.position,
            "memory": self.method.memory,
            "average": None if self.average is None else self.average.state(),
            "curve": [dataclasses.asdict(record) for record in self.curve],
            "sums": self.sums,
            "spent": self.spent,
            "best": self.best,
            "selected": self.selected,
        }
        write_state(path, state)

    def restore(self, path: Path) -> None:
        """Restore a stored run."""
        state = read_state(path)
        with restoring(path):
            self._restore(path, state)

    def _restore(self, path: Path, state: Mapping[str, Any]) -> None:
        check_same(path, state, self.facts)
        self.curve = [EpochRecord.restored(record) for record in state["curve"]]
        if len(self.curve) < self.recipe.optimiser.epochs:
            self.controller.at_epoch(len(self.curve), self.recipe.optimiser.epochs)
        self.model.load_state_dict(state["model"])
        self.controller.restore(state["controller"])
        self.engine.restore(state["engine_state"])
        self.engine.refresh()
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.sampler.order, self.sampler.position = state["order"], state["position"]
        self.method.restore(state["memory"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.sums.copy_(state["sums"])
        self.spent, self.best, self.selected = state["spent"], state["best"], state["selected"]

    def result(self) -> Trained:
        """Return the trained model of the selected epoch."""
        return make_trained(self.model, self.curve, self.best, self.selected, self.facts)


def _cpu_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
