"""`harness add`: make a record of a user model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import data_dir_option, image_options
from harness.cli.planned import print_note
from harness.cli.preprocessing import preprocessing_options
from model_zoo.threat import NORMS

if TYPE_CHECKING:
    from harness.datasets import ImageSet
    from model_zoo.adapters.preprocessing import Preprocessing

# Number of images on which the gates run the model.
PROBE = 16


@click.command("add")
@click.argument("model")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights for FILE.py:FUNCTION: safetensors, or a state dict.")
@preprocessing_options
@click.option("--id", "name", required=True, help="Id of the model: lower-case letters, digits and hyphens.")
@click.option("--family", required=True, help="Family: pruned-binary, dense, dense-binary, sparse, sparse-binary or quantised.")
@click.option(
    "--method", required=True, help="Training method, for example madry2018; `harness ls models --json` shows those of registered models."
)
@click.option("--weight-bits", type=click.IntRange(1, 32), required=True, help="Bits per weight.")
@click.option("--activation-bits", type=click.IntRange(1, 32), help="Bits per activation.  [default: the architecture's, else 32]")
@image_options("Data set that the model was trained on: cifar10, svhn, ..., or your images (docs/data.md).", required=True)
@data_dir_option()
@click.option("--extra-data", is_flag=True, help="The model was also trained on images outside that data set.")
@click.option(
    "--norm",
    type=click.Choice(NORMS),
    default="Linf",
    show_default=True,
    help="Norm of the threat model that the model was trained for.",
)
@click.option("--radius", required=True, help="Radius of the threat model that the model was trained for, an exact fraction such as 8/255.")
@click.option("--keep-ratio", type=click.FloatRange(0, 1, min_open=True), help="Fraction of weights kept, if the model is pruned.")
@click.option("--allocation-power", type=click.FloatRange(0, 1), help="The paper's p, if the model has one.")
@click.option("--title", help="One line that describes the model.  [default: MODEL]")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("added"), show_default=True, help="Folder to write to.")
def command(
    model: str,
    checkpoint: Path | None,
    preprocessing: Preprocessing,
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
    """Check a MODEL of your own and write a record of it: a TOML file, and a file of weights that loads without executing code.

    `harness compare --help` describes the forms of MODEL. A network built by model_zoo is packed. Any other network is stored as ONNX
    (needs the extra `onnx`); it is refused if the conversion changes its logits or its gradients. The commands run, compare, diagnose and
    show take the path of the record as a model.

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
    from model_zoo.schema import usual_shape
    from model_zoo.threat import ThreatModel, parse_radius, radius_text

    reference = parse(model, checkpoint, preprocessing)
    if not isinstance(reference, UserReference):
        raise UsageError(f"cannot add {model}: expected FILE.py:FUNCTION, or a file with torch.export (.pt2) or ONNX (.onnx)")
    threat = {"norm": norm, "radius": radius_text(ThreatModel(norm, parse_radius(radius)).radius)}
    user_model, loaded = reference.open()
    block, kind = _load_probe(dataset, data_dir)
    for note in block.notes:
        print_note(f"{block.name}: {note}")
    images, _ = block.tensors()
    shape = list(images.shape[1:])
    is_usual = not datasets.is_user_data(dataset) and shape == list(usual_shape(kind))
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
        "data": {"train": kind, "extra": extra_data, "shape": None if is_usual else shape},
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
