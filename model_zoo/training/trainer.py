"""Adversarial training: arrays and a recipe in, a trained classifier and its curve out; a run that was killed goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.classifier import Classifier
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel
from model_zoo.training.building import build, build_model
from model_zoo.training.curve import EpochRecord
from model_zoo.training.engine import make_engine, refresh, resolve_engine
from model_zoo.training.hold_out import hold_out_accuracy
from model_zoo.training.inner_attack import Forward
from model_zoo.training.methods import Setting, get_method
from model_zoo.training.optimiser import make_optimiser
from model_zoo.training.recipe import Recipe
from model_zoo.training.sampler import Batch, Sampler
from model_zoo.training.schedule import learning_rate
from model_zoo.training.sharing import Draws, Share, joined
from model_zoo.training.state import arrays_sha256, check_same, read_state, write_state

# Seconds between two stored states, and how many times longer than storing one the time between two is at least.
SAVE_EVERY = 60.0
SAVE_SHARE = 50.0


@dataclass
class Trained:
    """What training leaves: the classifier in eval mode, its curve, the epoch it is of, and how it was run."""

    model: Classifier
    selected: EpochRecord
    curve: list[EpochRecord] = field(default_factory=list)
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"
    images: int = 0
    engine: str = "dense"


@dataclass(frozen=True)
class Step:
    """Where training is: `done` of `total` optimiser steps, and images a second since this process began."""

    done: int
    total: int
    images_per_second: float


def clean_loss(forward: Forward, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy on images as they are, and their logits."""
    logits = forward(batch.images).float()
    return F.cross_entropy(logits, batch.labels), logits


def train(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    device: str = "cpu",
    report: Callable[[Step | EpochRecord], None] = lambda step: None,
    state: Path | None = None,
    compiled: bool = False,
    engine: str = "auto",
) -> Trained:
    """Train the recipe's model adversarially and return it in eval mode.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    images, labels : np.ndarray
        uint8 [N, H, W, 3] and integers [N]: the training split. The hold-out is taken from it.
    device : str
        "cpu" or "cuda". Where `torchrun` started several processes, each takes one GPU and its part of every batch.
    report : callable, optional
        Called after every optimiser step, and with its record after every epoch.
    state : Path, optional
        Keep the run there, about once a minute and after every epoch; a run that is there already goes on. The weights are those
        of a run that was never interrupted (on a CPU, with the same number of threads).
    compiled : bool
        Compile the network with `torch.compile`.
    engine : str
        "auto", or the name of the engine that computes, see `model_zoo.training.engine.resolve_engine`.

    Raises
    ------
    UsageError
        If there are too few images for the recipe's hold-out and batch, or the stored run is of another recipe or other images.
    DamagedFileError
        If the stored run cannot be read.
    """
    with joined(device) as (share, where):
        run = _Run(recipe, images, labels, where, share, compiled, resolve_engine(recipe, where.type, engine))
        if state is not None and state.is_file():
            run.restore(state)
        run.go_on(report, state if share.rank == 0 else None)
        return run.result()


def finished(recipe: Recipe, state: Path) -> Trained | None:
    """The result of a run that has come to its end elsewhere, from its stored state alone; None if it has not, or there is none."""
    if not state.is_file():
        return None
    stored = read_state(state)
    check_same(state, stored, {"recipe": recipe.to_dict()})
    if len(stored["curve"]) < recipe.optimiser.epochs:
        return None
    model = build_model(recipe)
    model.load_state_dict(stored["model"])
    return _trained(model, [EpochRecord(**record) for record in stored["curve"]], stored["best"], stored["selected"], stored)


class _Run:
    """A training run between two moments at which it can be stored."""

    def __init__(
        self, recipe: Recipe, images: np.ndarray, labels: np.ndarray, device: torch.device, share: Share, compiled: bool, engine: str
    ) -> None:
        self.recipe, self.share = recipe, share
        self.model, self.controller = build(recipe)
        self.model = self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.controller.to(device)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        order = torch.randperm(len(images), generator=self.generator).numpy()[: recipe.data.images]
        if len(order) < recipe.data.hold_out + recipe.optimiser.batch:
            raise UsageError(f"{len(order)} training images are too few for a hold-out of {recipe.data.hold_out} and one batch")
        pixels = torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous().to(device)
        targets = torch.from_numpy(labels[order].astype(np.int64)).to(device)
        self.held, self.held_targets = pixels[: recipe.data.hold_out], targets[: recipe.data.hold_out]
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
            step=float(Fraction(attack.step)),
            steps=attack.steps,
            faithful=attack.faithful,
            beta=attack.beta,
            images=pixels,
            draws=draws,
        )
        self.method = method(setting)
        self.sampler = Sampler(pixels, targets, recipe.optimiser.batch, method.crop(attack.faithful), draws)
        self.optimiser = make_optimiser(recipe.optimiser, self.model.parameters())
        # What is fixed for the whole run, and what a resumed one is compared with.
        self.facts = {
            "recipe": recipe.to_dict(),
            "data": arrays_sha256(images, labels),
            "images": len(images),
            "precision": self.engine.precision,
            "engine": self.engine.name,
            "threads": torch.get_num_threads(),
            "device": device.type,
            "processes": share.world,
        }
        self.curve: list[EpochRecord] = []
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.spent = 0.0
        self.best: dict[str, torch.Tensor] | None = None
        self.selected = 0

    def go_on(self, report: Callable[[Step | EpochRecord], None], state: Path | None) -> None:
        """Train from here to the end."""
        options, per_epoch = self.recipe.optimiser, self.sampler.batches
        before, begun, saved, cost = self.spent, time.perf_counter(), time.perf_counter(), 0.0
        first = len(self.curve) * per_epoch + self.sampler.position
        for epoch in range(len(self.curve), options.epochs):
            self.controller.at_epoch(epoch, options.epochs)
            self.engine.refresh()
            self.model.train()
            for batch in self.sampler.epoch():
                done = epoch * per_epoch + self.sampler.position
                rate = learning_rate(options, (done - 1) / per_epoch)
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                on_clean = self.controller.on_clean()
                loss, logits = clean_loss(self.engine.trained, batch) if on_clean else self.method.loss(batch)
                loss = loss + self.controller.penalty()
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                self.optimiser.step()
                self.controller.after_step(done / (options.epochs * per_epoch))
                self.engine.refresh()
                self.sums += torch.stack([loss.detach(), (logits.argmax(1) == batch.labels).float().mean()])
                now = time.perf_counter()
                report(Step(done, options.epochs * per_epoch, (done - first) * options.batch / (now - begun)))
                if state is not None and now - saved > max(SAVE_EVERY, SAVE_SHARE * cost):
                    self.spent = before + now - begun
                    self.save(state)
                    saved = time.perf_counter()
                    cost = saved - now
            self.spent = before + time.perf_counter() - begun
            self._close_epoch(epoch + 1)
            self.controller.after_epoch(self.curve)
            report(self.curve[-1])
            if state is not None:
                self.save(state)
                saved = time.perf_counter()

    def _close_epoch(self, epoch: int) -> None:
        rate = learning_rate(self.recipe.optimiser, (epoch * self.sampler.batches - 1) / self.sampler.batches)
        clean, robust = hold_out_accuracy(self.engine, self.held, self.held_targets, self.epsilon, self.recipe.seed)
        loss, correct = (self.sums / self.sampler.batches).tolist()
        self.curve.append(EpochRecord(epoch, rate, loss, correct, clean, robust, self.spent))
        self.sums.zero_()
        self.sampler.position = 0
        if self.recipe.select == "hold-out" and (self.best is None or robust > self.curve[self.selected].hold_out_pgd_accuracy):
            self.selected, self.best = epoch - 1, _copied(self.model)

    def save(self, path: Path) -> None:
        """Store everything that decides how the run goes on."""
        state = {
            **self.facts,
            "model": _copied(self.model),
            "controller": self.controller.state(),
            "engine_state": self.engine.state(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "order": self.sampler.order,
            "position": self.sampler.position,
            "memory": self.method.memory,
            "curve": [asdict(record) for record in self.curve],
            "sums": self.sums,
            "spent": self.spent,
            "best": self.best,
            "selected": self.selected,
        }
        write_state(path, state)

    def restore(self, path: Path) -> None:
        """Take up a stored run."""
        state = read_state(path)
        check_same(path, state, self.facts)
        self.curve = [EpochRecord(**record) for record in state["curve"]]
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
        self.sums.copy_(state["sums"])
        self.spent, self.best, self.selected = state["spent"], state["best"], state["selected"]

    def result(self) -> Trained:
        """The trained model, that of the selected epoch."""
        return _trained(self.model, self.curve, self.best, self.selected, self.facts)


def _trained(
    model: Classifier, curve: list[EpochRecord], best: dict[str, torch.Tensor] | None, selected: int, facts: Mapping[str, Any]
) -> Trained:
    """The result of a run from the model after its last epoch, or from the `best` one, that of epoch `selected` (counted from 0)."""
    if best is not None:
        model.load_state_dict(best)
    refresh(model)
    kept = {name: facts[name] for name in ("precision", "threads", "device", "images", "engine")}
    return Trained(model.eval(), curve[-1] if best is None else curve[selected], curve, **kept)


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
