"""Preprocessing outside an exported network, which the user states: scale, normalisation, layout, and the output with the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import torch
from torch import nn

from model_zoo.errors import UsageError


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images before the network, in the order of the attributes, and the name of the output with the logits.

    Raises a UsageError if `mean` or `std` has other than 0, 1 or 3 numbers, or `scale` or a `std` is not positive.

    Attributes
    ----------
    scale : float
        Factor by which pixels in [0, 1] are multiplied.
    mean, std : tuple of float
        Mean to subtract and standard deviation to divide by, per channel or one number for all, in units after scaling; empty for none.
    channels_last : bool
        Whether images are then permuted to [N, H, W, C].
    output : str
        Name of the output with the logits; "" if the network has only one output.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels_last: bool = False
    output: str = ""

    def __post_init__(self) -> None:
        if len(self.mean) not in (0, 1, 3) or len(self.std) not in (0, 1, 3):
            raise UsageError("mean and std must be one number, or one per channel, such as 0.49,0.48,0.45")
        if not self.scale > 0 or any(not value > 0 for value in self.std):
            raise UsageError("scale and std must be positive")

    def to_text(self) -> str:
        """Return the text that is appended to a path, such as "?scale=255&channels-last=1"; "" if all values are the defaults."""
        fields = {
            "scale": "" if self.scale == 1.0 else f"{self.scale!r}",
            "mean": ",".join(map(repr, self.mean)),
            "std": ",".join(map(repr, self.std)),
            "channels-last": "1" if self.channels_last else "",
            "output": self.output,
        }
        fields = {name: value for name, value in fields.items() if value}
        return f"?{urlencode(fields)}" if fields else ""

    @classmethod
    def from_text(cls, text: str) -> Preprocessing:
        """Inverse of `to_text`, for text without the question mark; raises a UsageError for any other text."""
        fields = dict(parse_qsl(text, keep_blank_values=True))
        try:
            scale, channels_last, output = float(fields.pop("scale", 1.0)), fields.pop("channels-last", "") == "1", fields.pop("output", "")
            mean, std = (tuple(float(value) for value in fields.pop(name, "").split(",") if value) for name in ("mean", "std"))
        except ValueError:
            fields["?"] = text
        if fields:
            raise UsageError(f"?{text}: expected scale=255, mean=0.5,0.5,0.5, std=..., channels-last=1 or output=NAME")
        return cls(scale, mean, std, channels_last, output)

    def identity(self) -> dict[str, Any]:
        """Return {"outside": text} for a model's architecture, with the text of `to_text`; {} if all values are the defaults."""
        text = self.to_text()
        return {"outside": text.removeprefix("?")} if text else {}


# No preprocessing.
NO_PREPROCESSING = Preprocessing()


class PreprocessedNetwork(nn.Module):
    """Network with its outside preprocessing, which maps images [N, C, H, W] in [0, 1] to float32 logits [N, classes].

    `kind` is the type that pixels are cast to. `batch` is the number of images that the network takes at a time, None for any number; a
    short last batch is padded with grey images, whose logits are dropped. `place` is the index of the output with the logits.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, kind: torch.dtype, batch: int | None, place: int) -> None:
        super().__init__()
        self.network, self.preprocessing, self.kind, self.batch, self.place = network, preprocessing, kind, batch, place
        self.register_buffer("mean", torch.tensor(preprocessing.mean or (0.0,)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std or (1.0,)).view(-1, 1, 1), persistent=False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [N, classes] of images [N, C, H, W]."""
        if self.batch is None:
            return self._logits(images)
        parts = images.split(self.batch)
        missing = self.batch - len(parts[-1])
        padding = torch.full((missing, *images.shape[1:]), 0.5).to(images)
        parts = (*parts[:-1], torch.cat([parts[-1], padding]))
        return torch.cat([self._logits(part) for part in parts])[: len(images)]

    def before(self, images: torch.Tensor) -> torch.Tensor:
        """Return images [N, C, H, W] in [0, 1] after preprocessing, before they are cast to the network's type."""
        scaled = images if self.preprocessing.scale == 1.0 else images * self.preprocessing.scale
        if self.preprocessing.mean or self.preprocessing.std:
            scaled = (scaled - self.mean) / self.std
        return scaled.permute(0, 2, 3, 1) if self.preprocessing.channels_last else scaled

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        output = self.network(self.before(images).to(self.kind))
        logits: torch.Tensor = output[self.place] if isinstance(output, (tuple, list)) else output
        return logits.float()
