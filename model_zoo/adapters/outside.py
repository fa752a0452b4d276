"""What lies outside an exported network: scale, normalisation, layout, the output that is meant. Its user says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch
from torch import nn

from model_zoo.errors import UsageError


@dataclass(frozen=True)
class Outside:
    """What is done to images before the network, and which of its outputs are logits.

    Attributes
    ----------
    scale : float
        Pixels in [0, 1] are multiplied by it first.
    mean, std : tuple of float
        Then the mean is subtracted and the result divided, per channel (one number for all); in units after scaling.
    channels_last : bool
        Then images become [N, H, W, C].
    output : str
        Name of the output with the logits; "" where there is but one.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels_last: bool = False
    output: str = ""

    def __post_init__(self) -> None:
        if len(self.mean) not in (0, 1, 3) or len(self.std) not in (0, 1, 3):
            raise UsageError("mean and std are one number, or one for each channel: 0.49,0.48,0.45")
        if not self.scale > 0 or any(not value > 0 for value in self.std):
            raise UsageError("scale and std are above 0")

    def to_text(self) -> str:
        """What stands behind a path: "?scale=255&channels-last=1"; "" where nothing is said."""
        said = {
            "scale": "" if self.scale == 1.0 else f"{self.scale!r}",
            "mean": ",".join(map(repr, self.mean)),
            "std": ",".join(map(repr, self.std)),
            "channels-last": "1" if self.channels_last else "",
            "output": self.output,
        }
        said = {name: value for name, value in said.items() if value}
        return f"?{urlencode(said)}" if said else ""

    @classmethod
    def from_text(cls, text: str) -> Outside:
        """Inverse of `to_text`, without the question mark; a UsageError for anything else."""
        said = dict(parse_qsl(text, keep_blank_values=True))
        try:
            scale, last, output = float(said.pop("scale", 1.0)), said.pop("channels-last", "") == "1", said.pop("output", "")
            mean, std = (tuple(float(value) for value in said.pop(name, "").split(",") if value) for name in ("mean", "std"))
        except ValueError:
            said["?"] = text
        if said:
            raise UsageError(f"?{text}: expected scale=255, mean=0.5,0.5,0.5, std=..., channels-last=1 or output=NAME")
        return cls(scale, mean, std, last, output)

    def identity(self) -> dict[str, Any]:
        """What is said, as plain JSON values; {} where nothing is."""
        text = self.to_text()
        return {"outside": text.removeprefix("?")} if text else {}


# Nothing lies outside.
PLAIN = Outside()


class Dressed(nn.Module):
    """A network with what lies outside it, taking images in [0, 1] to logits.

    `kind` is the type its pixels are cast to; `batch` the number of images it takes at a time, None for any: a short last batch is
    filled up with grey images, whose logits are dropped. `place` is that of its output with the logits.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, outside: Outside, kind: torch.dtype, batch: int | None, place: int) -> None:
        super().__init__()
        self.network, self.outside, self.kind, self.batch, self.place = network, outside, kind, batch, place
        self.register_buffer("mean", torch.tensor(outside.mean or (0.0,)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(outside.std or (1.0,)).view(-1, 1, 1), persistent=False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes]."""
        if self.batch is None:
            return self._logits(images)
        parts = images.split(self.batch)
        missing = self.batch - len(parts[-1])
        padding = torch.full((missing, *images.shape[1:]), 0.5).to(images)
        parts = (*parts[:-1], torch.cat([parts[-1], padding]))
        return torch.cat([self._logits(part) for part in parts])[: len(images)]

    def before(self, images: torch.Tensor) -> torch.Tensor:
        """What the network is given for images [N, C, H, W] in [0, 1]."""
        scaled = images if self.outside.scale == 1.0 else images * self.outside.scale
        if self.outside.mean or self.outside.std:
            scaled = (scaled - self.mean) / self.std
        return scaled.permute(0, 2, 3, 1) if self.outside.channels_last else scaled

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        given = self.network(self.before(images).to(self.kind))
        logits: torch.Tensor = given[self.place] if isinstance(given, (tuple, list)) else given
        return logits.float()
