"""Images side by side in one attack, each on its own: one that is broken or done leaves, and the next takes its place at once.

What becomes of an image depends on nothing but itself, the seed and the model: its random numbers come from the seed and its own pixels,
and an attack's state is a row of tensors that never look at each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from harness.randomness import image_generator

State = dict[str, torch.Tensor]


class Component(Protocol):
    """One attack. A row of its state is one run: an image, or an image and the class it is to be taken for.

    The driver adds `row`, the image's place among all images, and `clean` and `label`, and reads `query`.
    """

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """The state of one image's runs, [runs, ...] each, from clean [1, 3, H, W], its label [1] and logits [1, classes]."""

    def advance(self, ask: Ask, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Ask about every row's `query`, put another in its place.

        Returns
        -------
        tuple
            bool [rows]: what was asked about is an adversarial example; and the run is over.
        """


class Ask(Protocol):
    """The model, asked about queries [M, 3, H, W]: their logits; with a function of logits also its gradient, else None."""

    def __call__(
        self, queries: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`value` gives one number a row."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """For each image whether it was broken, bool [N], and the example, float32 [N, 3, H, W]; the clean image where it was not."""

    broken: torch.Tensor
    examples: torch.Tensor


def run(
    component: Component,
    name: str,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    rows: torch.Tensor,
    seed: int,
    slots: int,
) -> Pooled:
    """Attack the images at `rows`; `slots` runs at a time, or those of one image if they are more."""
    device, ask = images.device, _asking(model)
    broken, examples = torch.zeros(len(images), dtype=torch.bool, device=device), images.clone()
    waiting = rows.tolist()[::-1]
    state: State = {}
    running = runs = 0
    while waiting or running:
        fresh: list[State] = []
        while waiting and (running == 0 or running + runs <= slots):
            row = waiting.pop()
            one = slice(row, row + 1)
            # Drawn on the CPU, so that every device gets the same numbers.
            generator = image_generator(images[row], seed, name.encode())
            state_of = component.start(images[one].cpu(), labels[one].cpu(), logits[one].cpu(), generator)
            begun = {key: value.to(device) for key, value in state_of.items()}
            runs = len(begun["query"])
            begun |= {
                "row": torch.full((runs,), row, device=device),
                "clean": images[one].expand(runs, -1, -1, -1),
                "label": labels[one].expand(runs),
            }
            fresh.append(begun)
            running += runs
        if fresh:
            parts = ([state] if state else []) + fresh
            state = {key: torch.cat([part[key] for part in parts]) for key in fresh[0]}
        asked = state["query"]
        found, over = component.advance(ask, state)
        for place in found.nonzero().flatten().tolist():
            row = int(state["row"][place])
            # Of an image's runs the first counts.
            if not broken[row]:
                broken[row], examples[row] = True, asked[place]
        gone = over | broken[state["row"]]
        if gone.any():
            state = {key: value[~gone] for key, value in state.items()}
            running = len(state["row"])
    return Pooled(broken, examples)


def _asking(model: torch.nn.Module) -> Ask:
    def ask(queries: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor] | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        point = queries.detach().clone().requires_grad_(value is not None)
        with torch.set_grad_enabled(value is not None):
            logits = model(point)
            if value is None:
                return logits, None
            numbers = value(logits).sum()
            if not numbers.requires_grad:
                return logits.detach(), torch.zeros_like(queries)
            (gradient,) = torch.autograd.grad(numbers, point, allow_unused=True)
        return logits.detach(), torch.zeros_like(queries) if gradient is None else gradient

    return ask


def columns(values: torch.Tensor) -> torch.Tensor:
    """One number a row, [rows], so that it multiplies images [rows, 3, H, W]."""
    return values.view(-1, 1, 1, 1)


def best_others(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """The classes of largest logits besides the label, [N, count], the largest first."""
    return logits.scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
