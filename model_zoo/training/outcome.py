"""Write the result of a training run: packed checkpoint, curve and record, each by atomic rename, the record last."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import numpy as np
import torch

from model_zoo.classifier import Classifier
from model_zoo.families import get_family
from model_zoo.files import place
from model_zoo.layers.activations import activation_of
from model_zoo.packing.factors import stored_factors, value_counts
from model_zoo.packing.frozen import effective_weights, freeze, weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.pruning.allocation import ADAPTIVE, GLOBAL
from model_zoo.registry import write_record
from model_zoo.schema import Checkpoint, Record, Taxonomy, Threat, TrainedOn, Training, usual_shape
from model_zoo.threat import ThreatModel, radius_text
from model_zoo.training.curve import curve_csv
from model_zoo.training.recipe import Recipe
from model_zoo.training.trained import Trained

# Bibliography keys for dense networks: their training method, or early stopping (Rice et al. 2020).
STOPPED_EARLY = "rice2020"
TRAINING_METHODS = {
    "clean": "natural",
    "n-fgsm": "dejorge2022",
    "nuat": "sriramanan2021",
    "pgd": "madry2018",
    "stored-step": "zheng2020",
    "trades": "zhang2019",
}


def keep(trained: Trained, recipe: Recipe, folder: Path) -> Record:
    """Freeze and pack a trained model, write it to `folder` and return its record.

    The files are `<id>.safetensors`, `<id>.csv` (the training curve) and `<id>.toml` (the record).

    Parameters
    ----------
    trained : Trained
        Result of `model_zoo.training.trainer.train`.
    recipe : Recipe
        The recipe that it was trained with.
    folder : Path
        Output folder, created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family = get_family(recipe.family)
    frozen = freeze(trained.model, recipe.architecture, family.affine)
    content = pack(frozen, recipe.architecture, family.affine, {"id": recipe.id, "recipe": recipe.to_dict()})
    place(folder / f"{recipe.id}.safetensors", content)
    place(folder / f"{recipe.id}.csv", curve_csv(trained.curve).encode())
    record = describe(trained, recipe, frozen, content)
    write_record(record, folder)
    return record


def stored_as(recipe: Recipe) -> tuple[str, int]:
    """Return the family and the weight bits that the record of the recipe's model has."""
    family, options = get_family(recipe.family), recipe.options
    # With random magnitudes, a pruned network is sparse but not binary.
    if options.get("weight_init") in ("uniform", "kaiming-normal"):
        return "sparse", 32
    bits = options.get("bits", family.weight_bits)
    if options.get("weights") == "binary" or (family.kind == "sparse" and bits == 1):
        return "sparse-binary", 1
    return family.kind, bits


def allocation_of(recipe: Recipe) -> tuple[float | None, Taxonomy | None]:
    """Return the allocation power and the taxonomy of the record of the recipe's model; None if there is none."""
    family = get_family(recipe.family)
    options = family.all_options(recipe.options)
    if not family.taxonomy:
        return None, None
    allocation = options.get("allocation")
    scope = {ADAPTIVE: "local", GLOBAL: "global", None: family.taxonomy["scope"]}[allocation]
    return None if allocation == GLOBAL else options.get("allocation_power"), Taxonomy(**{**family.taxonomy, "scope": scope})


def describe(trained: Trained, recipe: Recipe, frozen: Classifier, content: bytes) -> Record:
    """Return the record of a trained model, given its frozen network and the content of its packed checkpoint."""
    threat = ThreatModel.parse(recipe.attack.threat)
    selected, last = trained.selected, trained.curve[-1]
    family = get_family(recipe.family)
    kind, bits = stored_as(recipe)
    power, taxonomy = allocation_of(recipe)
    activation = activation_of(recipe.architecture)
    training_method = TRAINING_METHODS[recipe.attack.method] if recipe.select == "last" else STOPPED_EARLY
    return Record(
        id=recipe.id,
        title=recipe.title,
        family=kind,  # type: ignore[arg-type]
        method=family.method or training_method,
        architecture=dict(recipe.architecture),
        affine=family.affine,
        weight_bits=bits,
        activation_bits=activation.bits,
        keep_ratio=_kept_share(frozen) if family.moves_keep_ratio else recipe.options.get("keep_ratio"),
        allocation_power=power,
        weight_init=recipe.options.get("weight_init"),
        pruning=taxonomy,
        backward=activation.backward,
        data=TrainedOn(
            train=recipe.data.dataset,
            images=(recipe.data.images or trained.images) - recipe.data.hold_out,
            shape=None if trained.shape == usual_shape(recipe.data.dataset) else trained.shape,
        ),
        threat=Threat(norm="Linf", radius=radius_text(threat.radius)),
        recipe=recipe.id,
        seed=recipe.seed,
        selected_on="last epoch" if recipe.select == "last" else f"{recipe.data.hold_out:,} held-out training images, PGD-10",
        training=Training(
            epochs=recipe.optimiser.epochs,
            minutes=round(last.seconds / 60, 1),
            machine=_machine(trained),
            precision=trained.precision,
            engine=trained.engine,
            threads=trained.threads,
            torch=torch.__version__.split("+")[0],
            hold_out_clean_accuracy=selected.hold_out_clean_accuracy,
            hold_out_pgd_accuracy=selected.hold_out_pgd_accuracy,
        ),
        weights_sha256=weights_sha256(frozen),
        checkpoint=Checkpoint(file=f"{recipe.id}.safetensors", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
    )


def _kept_share(frozen: Classifier) -> float:
    """Return the number of nonzero stored values (of factors, if there are any) as a share of the dense network's weights."""
    weights = effective_weights(frozen)
    factors, _ = value_counts(stored_factors(frozen))
    kept = sum(count for _, count, _ in factors) or sum(int(np.count_nonzero(array)) for array in weights)
    return round(kept / sum(array.size for array in weights), 4)


def _machine(trained: Trained) -> str:
    if trained.device != "cpu":
        return trained.device
    return f"{platform.machine()}, {trained.threads} CPU thread{'s' if trained.threads > 1 else ''}"
