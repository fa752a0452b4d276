"""`harness add`: make a record of a user model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import data_dir_option
from harness.cli.own import outside_options
from harness.cli.planned import reading_options, say_note

if TYPE_CHECKING:
    from harness.datasets import ImageSet
    from model_zoo.adapters.outside import Outside

# Number of images on which the gates run the model.
PROBE = 16


@click.command("add")
@click.argument("model")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights for FILE.py:FUNCTION: safetensors, or a state dict.")
@outside_options
@click.option("--id", "name", required=True, help="The id of the model: small letters, digits, hyphens.")
@click.option("--family", required=True, help="pruned-binary, dense, dense-binary, sparse, sparse-binary or quantised.")
@click.option("--method", required=True, help="How it was made, as in `harness ls models --json`: for example madry2018.")
@click.option("--weight-bits", type=click.IntRange(1, 32), required=True, help="Bits of a weight.")
@click.option("--activation-bits", type=click.IntRange(1, 32), help="Bits of an activation.  [default: the architecture's, else 32]")
@click.option("--dataset", required=True, help="What it was trained on: cifar10, cifar100, imagenet100, or your images (docs/data.md).")
@reading_options
@data_dir_option()
@click.option("--extra-data", is_flag=True, help="It was trained on images beyond that data set.")
@click.option(
    "--norm", type=click.Choice(["Linf", "L2"]), default="Linf", show_default=True, help="Of the threat model it was trained for."
)
@click.option("--radius", required=True, help="Of the threat model it was trained for, an exact fraction such as 8/255.")
@click.option("--keep-ratio", type=click.FloatRange(0, 1, min_open=True), help="Fraction of weights kept, where it is pruned.")
@click.option("--allocation-power", type=click.FloatRange(0, 1), help="The paper's p, where it has one.")
@click.option("--title", help="One line for the reader.  [default: MODEL]")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("added"), show_default=True, help="Where to write.")
def command(
    model: str,
    checkpoint: Path | None,
    outside: Outside,
    name: str,
    family: str,
    method: str,
    weight_bits: int,
    activation_bits: int | None,
    dataset: str,
    data_dir: Path | None,
    extra_data: bool,
    norm: str,
    radius: str,
    keep_ratio: float | None,
    allocation_power: float | None,
    title: str | None,
    folder: Path,
) -> None:
    """Make a record of MODEL, as `harness compare` takes it, once it has passed the gates: a file that loads as data, and a TOML.

    A network built by model_zoo is packed. Any other is kept as ONNX (needs the extra `onnx`), unless that would change its logits or its
    gradients. From then on the record is the model: harness run, compare, diagnose, show.

    \b
    Examples:
      harness add my_model.py:make_model --checkpoint weights.safetensors --id my-net --family dense --method madry2018 \\
          --weight-bits 32 --dataset cifar10 --radius 8/255
      harness run --model added/my-net.toml --attack autoattack --n 100
    """
    from harness import datasets
    from harness.cli.console import err
    from harness.evaluation.gates import check_alphabet, check_model
    from model_zoo.adapters.keep_user_model import keep_user_model
    from model_zoo.errors import UsageError
    from model_zoo.layers.activations import activation_of
    from model_zoo.loading import load_model
    from model_zoo.packing.frozen import all_weights
    from model_zoo.references import UserReference, parse
    from model_zoo.threat import ThreatModel, parse_radius, radius_text

    reference = parse(model, checkpoint, outside)
    if not isinstance(reference, UserReference):
        raise UsageError(f"{model} is no model of one's own: FILE.py:FUNCTION, or a file with torch.export (.pt2) or ONNX (.onnx)")
    threat = {"norm": norm, "radius": radius_text(ThreatModel(norm, parse_radius(radius)).radius)}
    user_model, loaded = reference.open()
    block, kind = _load_probe(dataset, data_dir)
    for note in block.notes:
        say_note(f"{block.name}: {note}")
    images, _ = block.tensors()
    check_model(loaded, images, len(block.classes))
    check_alphabet(all_weights(loaded), weight_bits, pruned=keep_ratio is not None)
    fields = {
        "id": name,
        "title": title or user_model.title,
        "family": family,
        "method": method,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits or activation_of(user_model.architecture).bits,
        "keep_ratio": keep_ratio,
        "allocation_power": allocation_power,
        "backward": user_model.backward,
        "data": {"train": kind, "extra": extra_data, "shape": list(images.shape[1:]) if datasets.is_user_data(dataset) else None},
        "threat": threat,
    }
    record = keep_user_model(reference, folder, images, fields)
    path = folder / f"{record.id}.toml"
    load_model(str(path))
    err.print(f"model: {folder / record.checkpoint.file} ({record.checkpoint.bytes:,} bytes)", markup=False)
    err.print(f"record: {path}", markup=False)


def _load_probe(dataset: str, data_dir: Path | None) -> tuple[ImageSet, str]:
    """Return the first images of what a model was trained on, or of a sample of it, and the name of the kind of data."""
    from harness import datasets

    name = dataset if datasets.is_user_data(dataset) else datasets.sample_of(dataset)
    info = datasets.describe(name)
    return datasets.load(name, data_dir, PROBE if info.size is None else min(PROBE, info.size)), info.family
