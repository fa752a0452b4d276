"""The small dense networks layer by layer, from the architectures, with the published numbers of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.reporting.cells import Cell
from harness.reporting.tables import Table

if TYPE_CHECKING:
    import pandas as pd

    from harness.reproduction.specification import PaperTable

# The networks, and the numbers of parameters in the paper's Table 7.
NETWORKS = {"p = 0.1": "cifar-small-resnet34-p01", "p = 1": "cifar-small-resnet34-p1"}
PUBLISHED_PARAMETERS = {"p = 0.1": 201_078, "p = 1": 216_360}
NOTE = "Parameters: weights of convolutions, and scale and shift of every batch norm; without a last batch norm, which would add 20."


def layer_parameters(architecture: str) -> dict[str, tuple[str, int]]:
    """Return shape and number of weights of every convolution by name, then those of all batch norms together."""
    from torch import nn

    from model_zoo.architectures import build_network

    network = build_network({"name": architecture, "classes": 10, "last_batch_norm": "none"})
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, kernel, _ = module.weight.shape
            layers[name] = f"{outputs} x {inputs} x {kernel} x {kernel}", module.weight.numel()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    channels = sum(module.num_features for module in norms)
    layers["batch norms"] = f"{channels} channels", sum(parameter.numel() for module in norms for parameter in module.parameters())
    return layers


def widths(table: PaperTable) -> tuple[pd.DataFrame, list[Table]]:
    """Return the layers of the small networks as a frame, and as one table with totals and published totals."""
    import pandas as pd

    layers = {label: layer_parameters(name) for label, name in NETWORKS.items()}
    frame = pd.DataFrame(
        {"network": label, "layer": name, "shape": shape, "parameters": count}
        for label, by_name in layers.items()
        for name, (shape, count) in by_name.items()
    )
    totals = {label: sum(count for _, count in by_name.values()) for label, by_name in layers.items()}
    rows = [
        [
            Cell("text", name),
            *(cell for label in NETWORKS for cell in (Cell("text", layers[label][name][0]), _count(layers[label][name][1]))),
        ]
        for name in layers["p = 1"]
    ]
    sums = {"total": totals, "published": PUBLISHED_PARAMETERS}
    rows += [
        [Cell("text", name), *(cell for label in NETWORKS for cell in (Cell("text", ""), _count(by_label[label])))]
        for name, by_label in sums.items()
    ]
    spaced = [label.replace(" ", "\u00a0") for label in NETWORKS]
    headings = ["layer", *(heading for label in spaced for heading in (f"shape, {label}", f"parameters, {label}"))]
    caption = f"Table {table.number}: {table.title}"
    notes = [table.caption, NOTE, *_comparison(totals), *table.notes, f"Source: {table.source}."]
    starts = frozenset({len(rows) - len(sums)})
    return frame, [Table(caption, headings, rows, [False, *[False, True] * len(NETWORKS)], notes, starts)]


def _comparison(totals: dict[str, int]) -> list[str]:
    return [
        f"{label}: {totals[label]:,} parameters, {published:,} published: "
        + ("equal." if totals[label] == published else f"{totals[label] - published:+,}.")
        for label, published in PUBLISHED_PARAMETERS.items()
    ]


def _count(number: int) -> Cell:
    return Cell("integer", number)
