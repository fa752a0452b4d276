"""`harness import`: convert a checkpoint of another code to a model with a record."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import json_option


@click.command("import")
@click.argument("kind", metavar="FORMAT")
@click.argument("file", metavar="FILE")
@click.option("--id", "name", required=True, help="Id of the model: lower-case letters, digits and hyphens.")
@click.option(
    "--dataset", type=click.Choice(["cifar10", "cifar100", "imagenet100"]), required=True, help="Data set that the model was trained on."
)
@click.option("--radius", required=True, help="Linf radius that the model was trained for, an exact fraction such as 8/255.")
@click.option("--extra-data", is_flag=True, help="The model was also trained on images outside its data set.")
@click.option("--keep-ratio", type=click.FloatRange(0, 1, min_open=True), help="Fraction of weights kept, if the file does not contain it.")
@click.option("--allocation-power", type=click.FloatRange(0, 1), help="The paper's p (--pr-scale of the authors' code); only for ivrl.")
@click.option(
    "--architecture",
    help="Architecture that the file must have, for example cifar-resnet34; only for ivrl.  [default: recognised from the tensors]",
)
@click.option("--width", type=click.IntRange(min=1), help="Number of channels of the first stage.")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("imported"), show_default=True, help="Folder to write to.")
@json_option("Print the record of the model as one JSON object, for scripts.")
def command(
    kind: str,
    file: str,
    name: str,
    dataset: str,
    radius: str,
    extra_data: bool,
    keep_ratio: float | None,
    allocation_power: float | None,
    architecture: str | None,
    width: int | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Convert a checkpoint FILE of another project to a packed file and a record, without executing anything in it.

    FORMAT is the project whose code wrote the file; it determines how images are normalised and which weights are pruned (`harness ls
    formats`). FILE is a path, or the name of a published file, which is downloaded once to OUT/downloads, where its hash is recorded.

    Some files do not contain the keep ratio: a wrong --keep-ratio or --allocation-power gives another network without any error. So does a
    file read as another format. Compare the clean accuracy with what its authors report (`harness run --model OUT/ID.toml`).

    \b
    Examples:
      harness import ivrl model_best.pth --id cifar10-rn34-official --dataset cifar10 --radius 8/255 \\
          --keep-ratio 0.01 --allocation-power 0.1
      harness import hydra model_best_dense.pth.tar --id cifar10-wrn28-4-hydra --dataset cifar10 --radius 0.031
      harness import bcs cifar10_resnet34_sparse1_at --id cifar10-rn34-bcs-k01 --dataset cifar10 --radius 8/255
    """
    from harness.cli.console import err
    from model_zoo.adapters import Request, get_format
    from model_zoo.adapters.keep import keep_imported
    from model_zoo.adapters.published import locate
    from model_zoo.errors import UsageError
    from model_zoo.schema import Threat, TrainedOn
    from model_zoo.threat import parse_radius, radius_text

    adapter = get_format(kind)
    if adapter.name != "ivrl" and (architecture or width or allocation_power is not None):
        raise UsageError(f"{adapter.name} files contain their architecture; --architecture, --width and --allocation-power are for ivrl")
    threat = Threat(norm="Linf", radius=radius_text(parse_radius(radius)))
    path, published = locate(adapter, file, folder / "downloads")
    request = Request(dataset, published.name if published else path.name, architecture, width, keep_ratio, allocation_power)
    imported = adapter.load(path, request)
    if imported.architecture["classes"] != request.classes:
        raise UsageError(f"{path} has {imported.architecture['classes']} classes, {dataset} has {request.classes}")
    record = keep_imported(
        imported,
        folder,
        name=name,
        title=f"{imported.family} {imported.architecture['name']}, imported ({adapter.name})",
        source=published.name if published else path.name,
        data=TrainedOn(train=dataset, extra=extra_data),
        threat=threat,
    )
    preposition = "with" if imported.affine else "without"
    last_norm = imported.architecture.get("last_batch_norm", "none")
    kept_text = "" if imported.keep_ratio is None else f", {100 * imported.keep_ratio:.2f} % of weights kept"
    lines = [f"found: {imported.family}, last batch norm {last_norm}, batch norms {preposition} scales{kept_text}"]
    lines.append(f"architecture: {imported.architecture['name']}, normalisation {imported.architecture['normalisation']}")
    lines += [f"left out because it is unused: {part} ({count:,} parameters)" for part, count in imported.left_out.items()]
    if imported.zeros:
        lines.append(f"{imported.zeros} kept weights are exactly 0 and count as removed")
    if imported.ties:
        lines.append(f"{imported.ties} weights share the |score| at which their layer is cut: which of them were kept is not known")
    lines += [*imported.notes, *([published.note] if published and published.note else [])]
    lines.append(f"model: {folder / record.checkpoint.file} ({record.checkpoint.bytes:,} bytes)")
    lines.append(f"record: {folder / record.id}.toml")
    for line in lines:
        err.print(line, markup=False, highlight=False)
    if as_json:
        click.echo(record.model_dump_json(indent=1, exclude_none=True))
