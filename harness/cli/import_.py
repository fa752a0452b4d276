"""`harness import`: somebody else's checkpoint becomes a model with a record."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["ivrl"]), required=True, help="ivrl: the paper's official code.")
@click.option("--id", "name", required=True, help="The id of the model: small letters, digits, hyphens.")
@click.option("--architecture", required=True, help="For example cifar-resnet34.")
@click.option("--width", type=click.IntRange(min=1), help="Channels of the first stage.  [default: the architecture's]")
@click.option("--dataset", type=click.Choice(["cifar10", "cifar100", "imagenet100"]), required=True, help="What it was trained on.")
@click.option("--radius", required=True, help="The Linf radius it was trained for, an exact fraction such as 8/255.")
@click.option("--keep-ratio", type=click.FloatRange(0, 1, min_open=True), help="Fraction of weights kept (the official --prune-rate).")
@click.option("--allocation-power", type=click.FloatRange(0, 1), help="The paper's p (the official --pr-scale).")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("imported"), show_default=True, help="Where to write.")
def command(
    file: Path,
    kind: str,
    name: str,
    architecture: str,
    width: int | None,
    dataset: str,
    radius: str,
    keep_ratio: float | None,
    allocation_power: float | None,
    folder: Path,
) -> None:
    """Turn a checkpoint FILE of another code into a packed file and a record, without executing anything in it.

    A checkpoint of the paper's code does not say how much it keeps: a wrong --keep-ratio or --allocation-power gives another network
    without any error, so compare the clean accuracy with what its authors report (`harness run --model OUT/ID.toml`).

    \b
    Examples:
      harness import model_best.pth --format ivrl --id cifar10-rn34-official --architecture cifar-resnet34 \\
          --dataset cifar10 --radius 8/255 --keep-ratio 0.01 --allocation-power 0.1
    """
    from harness.cli.console import err
    from model_zoo.adapters.ivrl import load_ivrl
    from model_zoo.adapters.keep import keep_imported
    from model_zoo.schema import Threat
    from model_zoo.threat import parse_radius, radius_text

    classes = 10 if dataset == "cifar10" else 100
    normalisation = "imagenet" if dataset == "imagenet100" else dataset
    asked = {"name": architecture, "classes": classes, "normalisation": normalisation, **({"width": width} if width else {})}
    found = load_ivrl(file, asked, keep_ratio, allocation_power)
    record = keep_imported(
        found,
        folder,
        name=name,
        title=f"{found.family} {architecture} of the official code, imported",
        source=file.name,
        keep_ratio=keep_ratio,
        allocation_power=allocation_power,
        dataset=dataset,
        threat=Threat(norm="Linf", radius=radius_text(parse_radius(radius))),
    )
    norms = "with" if found.affine else "without"
    err.print(f"found: {found.family}, last batch norm {found.architecture['last_batch_norm']}, batch norms {norms} scales", markup=False)
    if found.zeros:
        err.print(f"{found.zeros} kept weights are exactly 0 and count as removed", markup=False)
    if found.ties:
        err.print(f"{found.ties} weights share the |score| at which their layer is cut: which of them were kept is not known", markup=False)
    err.print(f"model: {folder / record.checkpoint.file} ({record.checkpoint.bytes:,} bytes)", markup=False)
    err.print(f"record: {folder / record.id}.toml", markup=False)
