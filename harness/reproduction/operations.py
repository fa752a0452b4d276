"""Operations of a block of convolution, batch norm and ReLU: the paper's formulas, and the counts of `model_zoo.footprint`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reporting.cells import Cell
from harness.reporting.tables import Table

if TYPE_CHECKING:
    import pandas as pd

    from harness.reproduction.specification import PaperTable
    from model_zoo.footprint import LayerFootprint

# Pass, and weights: the factors of X = (1 - r) c^2 s^2 r_in r_out, of Y = s^2 r_out and of W = c^2 r_in r_out in the paper's Table 6.
FACTORS: Mapping[tuple[str, str], tuple[int, int, int]] = {
    ("forward, training", "FP"): (2, 11, 0),
    ("forward, training", "binary"): (1, 11, 0),
    ("forward, evaluation", "FP"): (2, 4, 0),
    ("forward, evaluation", "binary"): (1, 4, 0),
    ("backward", "FP"): (4, 4, 1),
    ("backward", "binary"): (3, 4, 0),
}
PASSES, WEIGHTS = ("forward, training", "forward, evaluation", "backward"), ("FP", "binary")
RATE = 0.99
# Savings of binary weights on the ResNet-34 that the paper claims, as fractions.
CLAIMED = {"training": 0.45, "evaluation": 0.32}
FOOTNOTES = (
    "Counted: weights kept times output positions, as `harness footprint` counts them: one operation per kept weight and position, an "
    "addition if weights are binary and a multiply-accumulate if not. It is X of the formulas. The paper counts a multiplication and an "
    "addition as two (2X for FP), and adds batch norm and ReLU (4Y in evaluation, 11Y in training), which the footprint leaves out.",
    "Saved: 1 - binary / FP, from the paper's formulas summed over all convolutions of the ResNet-34, with the weights that allocation "
    "keeps at r = 0.99; training is one forward and one backward pass of one image. These sums do not give the published 45 % and 32 %; "
    "the paper does not state what it sums.",
)


@dataclass(frozen=True)
class Block:
    """Convolution, batch norm and ReLU: kernel size, side of the output maps, channels, and the number of weights kept."""

    kernel: int
    side: int
    inputs: int
    outputs: int
    kept: int

    @property
    def weights(self) -> int:
        """Number of weights without pruning: W."""
        return self.kernel**2 * self.inputs * self.outputs

    def operations(self, step: str, weights: str) -> int:
        """Return the paper's number of operations for a pass of `PASSES` with weights of `WEIGHTS`."""
        of_kept, of_outputs, of_weights = FACTORS[step, weights]
        return of_kept * self.kept * self.side**2 + of_outputs * self.side**2 * self.outputs + of_weights * self.weights

    def counted(self) -> int:
        """Return the operations that `model_zoo.footprint` counts for this block, with random binary weights."""
        import torch
        from torch import nn

        from model_zoo.footprint import measure_layers

        convolution = nn.Conv2d(self.inputs, self.outputs, self.kernel, padding=self.kernel // 2, bias=False)
        mask = torch.zeros(self.weights)
        mask[torch.randperm(self.weights, generator=torch.Generator().manual_seed(0))[: self.kept]] = 1.0
        with torch.no_grad():
            convolution.weight.copy_(mask.reshape(convolution.weight.shape))
        block = nn.Sequential(convolution, nn.BatchNorm2d(self.outputs), nn.ReLU()).eval().requires_grad_(False)
        return sum(layer.accumulations for layer in measure_layers(block, (self.inputs, self.side, self.side)))


def stage_blocks(rate: float = RATE) -> list[Block]:
    """Return one block of each stage of the CIFAR ResNet-34 with equal numbers of input and output channels, pruned at `rate`."""
    shapes = [(3, 32 // 2**stage, 64 * 2**stage) for stage in range(4)]
    return [Block(kernel, side, width, width, round((1 - rate) * kernel**2 * width**2)) for kernel, side, width in shapes]


def resnet34_layers() -> list[LayerFootprint]:
    """Return the convolutions of the dense CIFAR ResNet-34."""
    from model_zoo.architectures import build_network
    from model_zoo.footprint import measure_layers

    network = build_network({"name": "cifar-resnet34", "classes": 10, "last_batch_norm": "plain"}).eval().requires_grad_(False)
    return measure_layers(network)


def pruned_blocks(layers: Sequence[LayerFootprint], power: float, rate: float = RATE) -> list[Block]:
    """Return convolutions with the weights that allocation with this power keeps in each."""
    from model_zoo.pruning.allocation import layer_keep_counts

    kept = layer_keep_counts([layer.weights for layer in layers], 1 - rate, power)
    sides = [round((layer.macs / layer.weights) ** 0.5) for layer in layers]
    return [
        Block(layer.shape[2], side, layer.shape[1], layer.shape[0], count) for layer, side, count in zip(layers, sides, kept, strict=True)
    ]


def saved(blocks: list[Block]) -> dict[str, float]:
    """Return the fraction of operations that binary weights save by the paper's formulas, in training and in evaluation."""
    steps = {"training": ("forward, training", "backward"), "evaluation": ("forward, evaluation",)}
    savings = {}
    for name, passes in steps.items():
        full, binary = (sum(block.operations(step, weights) for block in blocks for step in passes) for weights in WEIGHTS)
        savings[name] = 1 - binary / full
    return savings


def operations(table: PaperTable) -> tuple[pd.DataFrame, list[Table]]:
    """Return the numbers of the table of operations as a frame, and its parts: formulas, blocks of each stage, and savings."""
    import pandas as pd

    blocks = stage_blocks()
    counted = [block.counted() for block in blocks]
    rows = [row for block, count in zip(blocks, counted, strict=True) for row in _block_rows(block, count)]
    layers = resnet34_layers()
    powers = {power: saved(pruned_blocks(layers, power)) for power in (0.1, 1.0)}
    rows += [
        {"what": f"saved in {name}", "p": power, "value": value, "published": CLAIMED[name]}
        for power, by_name in powers.items()
        for name, value in by_name.items()
    ]
    formulas = [[Cell("text", step), *(Cell("text", _formula(step, weights)) for weights in WEIGHTS)] for step in PASSES]
    parts = [
        Table(f"Table {table.number}: {table.title}", ["pass", *WEIGHTS], formulas, [False] * 3, [table.caption]),
        _by_stage(blocks, counted),
        _savings(powers, [*FOOTNOTES, *table.notes, f"Source: {table.source}."]),
    ]
    return pd.DataFrame(rows), parts


def _block_rows(block: Block, counted: int) -> Iterator[dict[str, object]]:
    shared = {"kernel": block.kernel, "side": block.side, "inputs": block.inputs, "outputs": block.outputs, "kept_weights": block.kept}
    for step in PASSES:
        for weights in WEIGHTS:
            yield {"what": step, **shared, "weights": weights, "value": block.operations(step, weights)}
    yield {"what": "forward, counted by the footprint", **shared, "value": counted}


def _formula(step: str, weights: str) -> str:
    return " + ".join(f"{factor if factor > 1 else ''}{name}" for factor, name in zip(FACTORS[step, weights], "XYW", strict=True) if factor)


def _by_stage(blocks: Sequence[Block], counted: Sequence[int]) -> Table:
    headings = [f"{block.inputs}\u00a0channels {block.side}\u00a0x\u00a0{block.side}" for block in blocks]
    lines: list[list[Cell]] = [[Cell("text", "weights kept"), *(Cell("integer", block.kept) for block in blocks)]]
    for step in PASSES:
        for weights in WEIGHTS:
            lines.append([Cell("text", f"{step}, {weights}"), *(Cell("integer", block.operations(step, weights)) for block in blocks)])
    lines.append([Cell("text", "forward, counted"), *(Cell("integer", count, suffix="¹") for count in counted)])
    caption = "By the formulas, for a 3 x 3 block of each stage of the ResNet-34 at r = 0.99"
    return Table(caption, ["operations", *headings], lines, [False, *[True] * len(blocks)], [])


def _savings(powers: Mapping[float, Mapping[str, float]], notes: list[str]) -> Table:
    marks = [f"{'¹²'[number]} {note}" if number < len(FOOTNOTES) else note for number, note in enumerate(notes)]
    lines = [
        [
            Cell("text", f"saved in {name}"),
            Cell("share", CLAIMED[name]),
            *(Cell("share", by_name[name], suffix="²") for by_name in powers.values()),
        ]
        for name in CLAIMED
    ]
    headings = ["%", "published", *(f"formulas, p\u00a0=\u00a0{power:g}" for power in powers)]
    return Table("Operations that binary weights save, ResNet-34 at r = 0.99", headings, lines, [False, *[True] * (1 + len(powers))], marks)
