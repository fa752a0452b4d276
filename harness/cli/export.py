"""`harness export`: write a model as one self-describing file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import json_option


@click.command("export")
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: ./MODEL.safetensors]")
@click.option(
    "--signs",
    type=click.Choice(["stored", "seed"]),
    default="stored",
    show_default=True,
    help="Store the signs, one bit per kept weight, or only the recipe's seed: smaller, but needs a torch that draws the same signs.",
)
@json_option("Print one JSON object, for scripts.")
def command(model: str, out: Path | None, signs: str, as_json: bool) -> None:
    """Write MODEL (an id, or the path of a record) to one packed file, and check that the file gives the same logits, bit for bit.

    \b
    Examples:
      harness export cifar10-rn8w32-pruned-binary-k05-p01
      harness export cifar10-rn8w32-pruned-binary-k05-p01 --signs seed --out small.safetensors --json
    """
    import torch

    from harness import datasets
    from harness.cli.console import err
    from harness.cli.console import out as console
    from model_zoo.packing.export import export, parts
    from model_zoo.references import parse_recorded

    record = parse_recorded(model).describe()
    # Any images serve to compare logits: CIFAR networks get the sample, which has their size, and others get noise.
    if record.input_shape == (3, 32, 32):
        probe, _ = datasets.load("cifar10-sample").first(16).tensors()
    else:
        probe = torch.rand(4, *record.input_shape, generator=torch.Generator().manual_seed(0))
    path = out or Path(f"{record.id}.safetensors")
    content = export(model, path, signs == "seed", probe)
    sizes = parts(content)
    if as_json:
        click.echo(json.dumps({"file": str(path), "bytes": len(content), "parts": sizes}, indent=1))
        return
    console.print(f"{path}: {len(content):,} bytes", markup=False, highlight=False)
    for name, size in sizes.items():
        console.print(f"  {name:<12}{size:>10,}", markup=False, highlight=False)
    err.print(f"loaded again: the same logits, bit for bit, on {len(probe)} images", markup=False)
