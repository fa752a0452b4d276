"""State of each image in an attack whose components run in order, each on the images that no earlier one broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness.attacks.common import Flag
from harness.attacks.memory import Memory, Saved

# Value in place of a component for images that are misclassified before the first one.
CLEAN = -1


@dataclass(eq=False)
class ComponentProgress:
    """State of the images after some components.

    Attributes
    ----------
    adversarial : torch.Tensor
        Examples, float32 [N, 3, H, W]; the clean image if none was found.
    broken_in : torch.Tensor
        int64 [N]: index of the component that broke each image, the number of components if none did, and `CLEAN` if the clean image
        is misclassified.
    done : list of str
        Finished components, in order.
    flags : tuple of Flag
        Warnings so far.
    extra : mapping
        Tensors, by name, that components of the attack leave for later ones.
    """

    adversarial: torch.Tensor
    broken_in: torch.Tensor
    done: list[str]
    flags: tuple[Flag, ...]
    extra: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def begin(cls, images: torch.Tensor, components: Sequence[str], memory: Memory | None, **extra: torch.Tensor) -> ComponentProgress:
        """Return the state saved in `memory` if its shape and components match, else that before the first component.

        `extra` are tensors that the state starts with; they are copied.
        """
        saved = memory.load() if memory is not None else None
        if saved is not None and saved.tensors["adversarial"].shape == images.shape and saved.done == tuple(components)[: len(saved.done)]:
            adversarial, broken_in = (saved.tensors[name].to(images.device) for name in ("adversarial", "broken_in"))
            extra = {name: saved.tensors[name].to(images.device) for name in extra}
            return cls(adversarial, broken_in, list(saved.done), saved.flags, extra)
        broken_in = torch.full((len(images),), len(components), device=images.device)
        return cls(images.clone(), broken_in, [], (), {name: tensor.clone() for name, tensor in extra.items()})

    def survivors(self, place: int) -> torch.Tensor:
        """Return the indices of the images that no component before index `place` broke, int64."""
        return (self.broken_in >= place).nonzero().flatten()

    def take(self, place: int, rows: torch.Tensor, examples: torch.Tensor, broken: torch.Tensor) -> None:
        """Record the result of the component at index `place` on `rows`: `examples` for those rows for which `broken` is true."""
        self.adversarial[rows[broken]] = examples[broken]
        self.broken_in[rows[broken]] = place

    def save(self, memory: Memory | None) -> None:
        """Save the state in `memory`; do nothing if it is None."""
        if memory is not None:
            tensors = {"adversarial": self.adversarial, "broken_in": self.broken_in, **self.extra}
            memory.save(Saved(tuple(self.done), tensors, self.flags))

    def broken_by(self, components: Sequence[str]) -> tuple[str | None, ...]:
        """Return the name of the component that broke each image, "clean", or None."""
        names = {CLEAN: "clean", len(components): None, **dict(enumerate(components))}
        return tuple(names[index] for index in self.broken_in.tolist())
