"""Training from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_zoo.schema import Record
    from model_zoo.training.curve import EpochRecord
    from model_zoo.training.trained import Step


def train(
    recipe: str,
    *,
    out: str | Path = "trained",
    data_dir: str | Path | None = None,
    download: bool = False,
    device: str = "cpu",
    compiled: bool = False,
    engine: str = "auto",
    test: str | None = None,
    on_event: Callable[[Step | EpochRecord], None] = lambda event: None,
) -> Record | None:
    """Train a model from a recipe, or continue an interrupted run, and store it as packed checkpoint, record and curve.

    Parameters
    ----------
    recipe : str
        The id of a recipe (`harness ls recipes`), or the path of a recipe file.
    out : path
        Folder for the model; it also holds the state of an unfinished run.
    data_dir : path, optional
        Where CIFAR is; see `harness.datasets.data_folder`.
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

    from harness.datasets import data_folder, load
    from harness.datasets.cifar import load_train
    from harness.reporting.curves import draw
    from model_zoo.errors import UsageError
    from model_zoo.training.outcome import keep
    from model_zoo.training.recipe import Recipe, recipe_path
    from model_zoo.training.sharing import first_process
    from model_zoo.training.state import state_path
    from model_zoo.training.trainer import finished
    from model_zoo.training.trainer import train as run

    loaded_recipe, folder = Recipe.load(recipe_path(recipe)), Path(out)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: use the CPU")
    state = state_path(folder, loaded_recipe.id)
    trained = finished(loaded_recipe, state)
    if trained is None:
        data_path = None if data_dir is None else Path(data_dir)
        images = load_train(loaded_recipe.data.dataset, data_folder(data_path), download)
        test_images = None if test is None else load(test, data_path, download=download)
        arrays = None if test_images is None else (test_images.images, test_images.labels)
        trained = run(loaded_recipe, images.images, images.labels, device, on_event, state, compiled, engine, arrays)
    if not first_process():
        return None
    record = keep(trained, loaded_recipe, folder)
    curve = folder / f"{record.id}.csv"
    draw(curve, curve.with_suffix(".png"))
    state.unlink(missing_ok=True)
    return record
