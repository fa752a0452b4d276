"""One training run over several processes: each takes its rows of every batch; all draw the same random numbers."""

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
    """Which of `world` processes this is, counted from 0."""

    rank: int = 0
    world: int = 1

    def rows(self, tensor: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """Entries of this process in something drawn for a whole batch: every `world`-th along `dim`."""
        return tensor if self.world == 1 else tensor[(slice(None),) * dim + (slice(self.rank, None, self.world),)]


def first_process() -> bool:
    """Whether this process is the one that speaks and writes: alone, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


class Draws:
    """Random numbers for a batch from one CPU generator; the same whatever the device and the number of processes."""

    def __init__(self, generator: torch.Generator, share: Share) -> None:
        self.generator, self.share = generator, share

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        """From [0, 1), of the shape, type and device of `like` [n, ...], this process's part of a batch."""
        return self.share.rows(torch.rand((len(like) * self.share.world, *like.shape[1:]), generator=self.generator)).to(like)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal, as `uniform`."""
        return self.share.rows(torch.randn((len(like) * self.share.world, *like.shape[1:]), generator=self.generator)).to(like)

    def integers(self, high: int, rows: int, number: int) -> torch.Tensor:
        """int64 [rows, number] below `high`, on the CPU."""
        return self.share.rows(torch.randint(0, high, (rows, number * self.share.world), generator=self.generator), dim=1)

    def coins(self, number: int) -> torch.Tensor:
        """Fair coins, bool [number], on the CPU."""
        return self.share.rows(torch.rand(number * self.share.world, generator=self.generator) < 0.5)


@contextmanager
def joined(device: str) -> Iterator[tuple[Share, torch.device]]:
    """Say which share and device are this process's: alone, or one of those that `torchrun` started (it says so in the environment)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Share(), torch.device(device)
        return
    local = torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Share(distributed.get_rank(), world), local
    finally:
        distributed.destroy_process_group()


def shared(model: nn.Module, share: Share, batch: int) -> nn.Module:
    """`model`, or the same with gradients averaged over all processes; batch norms see their own process's images, as in the official code.

    Raises
    ------
    UsageError
        If the batch cannot be divided among the processes.
    """
    if batch % share.world:
        raise UsageError(f"a batch of {batch} cannot be divided among {share.world} processes")
    # Statistics are not sent around: a broadcast between two passes of one loss would change what their gradient needs.
    return model if share.world == 1 else nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
