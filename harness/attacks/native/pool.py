"""Driver that attacks many images in one batch, independently of each other; a finished image is replaced by the next at once.

The result for an image depends only on the image, the seed and the model: its random numbers are drawn from the seed and its pixels,
and each row of an attack's state is updated without regard to the other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from harness.randomness import image_generator

State = dict[str, torch.Tensor]


class Component(Protocol):
    """An attack that `run` can drive. One row of its state is one run: of an image, or of an image and a target class.

    The driver adds to the state `row` (the index of the image), `clean` and `label`, and reads `query`.
    """

    def start(self, clean: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, generator: torch.Generator) -> State:
        """Return the initial state of one image's runs, tensors [runs, ...].

        `clean` is [1, 3, H, W], `labels` [1] and `logits` [1, classes], all on the CPU.
        """

    def advance(self, query_model: ModelQuery, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate every row's `query` and replace it by the next one.

        Returns
        -------
        tuple
            Two tensors bool [rows]: whether the evaluated query is an adversarial example, and whether the run is over.
        """


class ModelQuery(Protocol):
    """Evaluate the model at queries [M, 3, H, W]: the logits and, if a function of the logits is passed, its gradient (else None)."""

    def __call__(
        self, queries: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits [M, classes] and a gradient [M, 3, H, W] or None; `value` maps logits to one number per row, [M]."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """Result of `run`: whether each image was broken, bool [N], and its example (else the clean image), float32 [N, 3, H, W]."""

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
    """Attack the images at `rows`, with `slots` runs at a time, or the runs of one image if those are more.

    Parameters
    ----------
    name : str
        Name of the component, from which the random numbers are drawn together with the seed.
    images, labels, logits : torch.Tensor
        float32 [N, 3, H, W] in [0, 1], int64 [N], and the clean images' logits [N, classes].
    rows : torch.Tensor
        Indices of the images to attack, int64.
    """
    device, query_model = images.device, _query_function(model)
    broken, examples = torch.zeros(len(images), dtype=torch.bool, device=device), images.clone()
    waiting = rows.tolist()[::-1]
    state: State = {}
    running = runs = 0
    while waiting or running:
        new_states: list[State] = []
        while waiting and (running == 0 or running + runs <= slots):
            row = waiting.pop()
            image_slice = slice(row, row + 1)
            # Drawn on the CPU, so that every device gets the same numbers.
            generator = image_generator(images[row], seed, name.encode())
            initial = component.start(images[image_slice].cpu(), labels[image_slice].cpu(), logits[image_slice].cpu(), generator)
            run_state = {key: value.to(device) for key, value in initial.items()}
            runs = len(run_state["query"])
            run_state |= {
                "row": torch.full((runs,), row, device=device),
                "clean": images[image_slice].expand(runs, -1, -1, -1),
                "label": labels[image_slice].expand(runs),
            }
            new_states.append(run_state)
            running += runs
        if new_states:
            parts = ([state] if state else []) + new_states
            state = {key: torch.cat([part[key] for part in parts]) for key in new_states[0]}
        queries = state["query"]
        is_adversarial, is_over = component.advance(query_model, state)
        for index in is_adversarial.nonzero().flatten().tolist():
            row = int(state["row"][index])
            # The first successful run of an image counts.
            if not broken[row]:
                broken[row], examples[row] = True, queries[index]
        is_finished = is_over | broken[state["row"]]
        if is_finished.any():
            state = {key: value[~is_finished] for key, value in state.items()}
            running = len(state["row"])
    return Pooled(broken, examples)


def _query_function(model: torch.nn.Module) -> ModelQuery:
    def query_model(
        queries: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = queries.detach().clone().requires_grad_(value is not None)
        with torch.set_grad_enabled(value is not None):
            logits = model(inputs)
            if value is None:
                return logits, None
            total = value(logits).sum()
            if not total.requires_grad:
                return logits.detach(), torch.zeros_like(queries)
            (gradient,) = torch.autograd.grad(total, inputs, allow_unused=True)
        return logits.detach(), torch.zeros_like(queries) if gradient is None else gradient

    return query_model


def columns(values: torch.Tensor) -> torch.Tensor:
    """Reshape `values` [rows] to [rows, 1, 1, 1], so that they broadcast over images [rows, 3, H, W]."""
    return values.view(-1, 1, 1, 1)


def best_others(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` classes with the largest logits except the label, int64 [N, count], in descending order of logit."""
    return logits.scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
