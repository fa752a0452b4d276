"""What has become of each image in an attack of several components, each on what the ones before have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness.attacks.common import Flag
from harness.attacks.memory import Memory, Saved

# In place of a component: the image was wrong before the first.
CLEAN = -1


@dataclass(eq=False)
class ComponentProgress:
    """Where the images stand.

    Attributes
    ----------
    adversarial : torch.Tensor
        float32 [N, 3, H, W]: the example that was found, the clean image where there is none.
    broken_in : torch.Tensor
        int64 [N]: the place of the component that broke each image, their number where none has, `CLEAN` where none was needed.
    done : list of str
        The components that are over, in order.
    flags : tuple of Flag
        Warnings so far.
    """

    adversarial: torch.Tensor
    broken_in: torch.Tensor
    done: list[str]
    flags: tuple[Flag, ...]

    @classmethod
    def begin(cls, images: torch.Tensor, components: Sequence[str], memory: Memory | None) -> ComponentProgress:
        """What `memory` has of the same images and components, else a beginning."""
        saved = memory.load() if memory is not None else None
        if saved is not None and saved.tensors["adversarial"].shape == images.shape and saved.done == tuple(components)[: len(saved.done)]:
            adversarial, broken_in = (saved.tensors[name].to(images.device) for name in ("adversarial", "broken_in"))
            return cls(adversarial, broken_in, list(saved.done), saved.flags)
        return cls(images.clone(), torch.full((len(images),), len(components), device=images.device), [], ())

    def survivors(self, place: int) -> torch.Tensor:
        """Rows that no component before `place` has broken."""
        return (self.broken_in >= place).nonzero().flatten()

    def take(self, place: int, rows: torch.Tensor, examples: torch.Tensor, broken: torch.Tensor) -> None:
        """Of `rows`, which the component at `place` attacked, it broke those where `broken` is true, with `examples`."""
        self.adversarial[rows[broken]] = examples[broken]
        self.broken_in[rows[broken]] = place

    def save(self, memory: Memory | None) -> None:
        """Leave all this in a memory, if there is one."""
        if memory is not None:
            memory.save(Saved(tuple(self.done), {"adversarial": self.adversarial, "broken_in": self.broken_in}, self.flags))

    def broken_by(self, components: Sequence[str]) -> tuple[str | None, ...]:
        """For each image the component that broke it, "clean", or None."""
        named = {CLEAN: "clean", len(components): None, **dict(enumerate(components))}
        return tuple(named[place] for place in self.broken_in.tolist())
