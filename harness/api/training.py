"""Training from Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_zoo.schema import Record
    from model_zoo.training.curve import EpochRecord
    from model_zoo.training.trained import Step


def train(
    recipe: str,
    *,
    dataset: str | None = None,
    out: str | Path = "trained",
    data_dir: str | Path | None = None,
    download: bool = False,
    device: str = "cpu",
    compiled: bool = False,
    engine: str = "auto",
    test: str | None = None,
    on_event: Callable[[Step | EpochRecord], None] = lambda event: None,
    on_state: Callable[[str, Path], None] = lambda model, path: None,
) -> Record | None:
    """Train a model from a recipe, or continue an interrupted run, and store it as packed checkpoint, record and curve.

    Parameters
    ----------
    recipe : str
        The id of a recipe (`harness ls recipes`), or the path of a recipe file.
    dataset : str, optional
        Images to train on in place of the recipe's data: a name or images of your own, see `harness.datasets.load_training`. Classes,
        channels and a normalisation named after a data set become those of the images (`model_zoo.training.fitting.fit`). The id of a
        shipped recipe is followed by the name of the data set, so that the model is not confused with the shipped one.
    out : path
        Folder for the model; it also holds the state of an unfinished run.
    data_dir : path, optional
        Where data sets are that do not ship; see `harness.datasets.data_folder`.
    download : bool
        Whether CIFAR may be downloaded.
    device : str
        "cpu" or "cuda".
    compiled : bool
        Whether the network is compiled by torch.
    engine : str
        "auto", "dense" or "sparse"; see docs/training.md.
    test : str, optional
        A data set whose accuracy joins the curve.
    on_event : callable, optional
        Called after steps and epochs.
    on_state : callable, optional
        Called with the id of the model and the path of the run's state before training begins.

    Returns
    -------
    Record or None
        The record of the model; None in all but the first process of a distributed run.

    Raises
    ------
    UserError
        If the recipe is wrong, or the data or the device is absent.
    """
    import torch

    from harness import datasets
    from harness.reporting.curves import draw
    from model_zoo.errors import UsageError
    from model_zoo.training.fitting import fit
    from model_zoo.training.outcome import keep
    from model_zoo.training.recipe import Recipe, recipe_path
    from model_zoo.training.sharing import first_process
    from model_zoo.training.state import state_path
    from model_zoo.training.trainer import finished
    from model_zoo.training.trainer import train as run

    loaded_recipe, folder = Recipe.load(recipe_path(recipe)), Path(out)
    data_path = None if data_dir is None else Path(data_dir)
    images = None
    if dataset is not None:
        images = datasets.load_training(dataset, data_path, download)
        kind = datasets.describe(dataset).kind
        if not recipe.endswith(".toml"):
            title = f"{loaded_recipe.title}, on {images.name}"
            loaded_recipe = replace(loaded_recipe, id=f"{loaded_recipe.id}-on-{_slug(images.name)}", title=title)
        loaded_recipe = fit(loaded_recipe, images.images, len(images.classes), kind.name, kind.mirrors)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: use the CPU")
    state = state_path(folder, loaded_recipe.id)
    on_state(loaded_recipe.id, state)
    trained = finished(loaded_recipe, state)
    if trained is None:
        if images is None:
            images = datasets.load_training(loaded_recipe.data.dataset, data_path, download)
        test_images = None if test is None else datasets.load(test, data_path, download=download)
        arrays = None if test_images is None else (test_images.images, test_images.labels)
        trained = run(loaded_recipe, images.images, images.labels, device, on_event, state, compiled, engine, arrays)
    if not first_process():
        return None
    record = keep(trained, loaded_recipe, folder)
    curve = folder / f"{record.id}.csv"
    draw(curve, curve.with_suffix(".png"))
    state.unlink(missing_ok=True)
    return record


def _slug(name: str) -> str:
    """Return the name of a data set as a part of an id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("file:").removeprefix("folder:")).strip("-")
