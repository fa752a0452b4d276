"""Split one training run over several processes: each takes its rows of every batch, and all draw the same random numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from model_zoo.errors import UsageError


@dataclass(frozen=True)
class Share:
    """Rank of this process among `world` processes, counted from 0."""

    rank: int = 0
    world: int = 1

    def rows(self, tensor: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """Return this process's entries of a tensor drawn for a whole batch: every `world`-th along `dim`, starting at `rank`."""
        return tensor if self.world == 1 else tensor[(slice(None),) * dim + (slice(self.rank, None, self.world),)]


def first_process() -> bool:
    """Return whether this process logs and writes files: it is the only one, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


class Draws:
    """Random numbers for a batch from one CPU generator; they depend neither on the device nor on the number of processes."""

    def __init__(self, generator: torch.Generator, share: Share) -> None:
        self.generator, self.share = generator, share

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        """Return uniform numbers in [0, 1) for this process's part of a batch, with the shape, type and device of `like` [n, ...]."""
        return self.share.rows(torch.rand((len(like) * self.share.world, *like.shape[1:]), generator=self.generator)).to(like)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Return standard normal numbers; otherwise like `uniform`."""
        return self.share.rows(torch.randn((len(like) * self.share.world, *like.shape[1:]), generator=self.generator)).to(like)

    def integers(self, high: int, rows: int, number: int) -> torch.Tensor:
        """Return random integers in [0, high), int64 [rows, number], on the CPU."""
        return self.share.rows(torch.randint(0, high, (rows, number * self.share.world), generator=self.generator), dim=1)

    def coins(self, number: int) -> torch.Tensor:
        """Return fair coin tosses, bool [number], on the CPU."""
        return self.share.rows(torch.rand(number * self.share.world, generator=self.generator) < 0.5)


@contextmanager
def joined(device: str) -> Iterator[tuple[Share, torch.device]]:
    """Yield this process's share and device: the only process, or one of those that `torchrun` started (according to the environment)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Share(), torch.device(device)
        return
    local_device = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(local_device)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Share(distributed.get_rank(), world), local_device
    finally:
        distributed.destroy_process_group()


def shared(model: nn.Module, share: Share, batch: int) -> nn.Module:
    """Return `model`, wrapped so that gradients are averaged over all processes if there are several.

    Batch norms use the images of their process only, as in the official code.

    Raises
    ------
    UsageError
        If the batch cannot be divided among the processes.
    """
    if batch % share.world:
        raise UsageError(f"a batch of {batch} cannot be divided among {share.world} processes")
    # Buffers are not broadcast: a broadcast between two passes of one loss would change tensors that the gradient needs.
    return model if share.world == 1 else nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
