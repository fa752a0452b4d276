"""`harness train`: a recipe becomes a packed model with a record and a curve."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train")
@click.argument("recipe")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("trained"), show_default=True, help="Where to write.")
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help="Where the training images are.")
@click.option("--download", is_flag=True, help="Download the data set if it is not there.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; part of what decides the weights.  [default: torch's]")
def command(recipe: str, folder: Path, data_dir: Path | None, download: bool, device: str, threads: int | None) -> None:
    """Train a model adversarially from a RECIPE: the id of one that ships, or a TOML file of your own.

    Writes a packed checkpoint, a record and the training curve; `harness run --model OUT/ID.toml` then attacks it. The same recipe,
    images and number of threads on one machine give the same weights.

    \b
    Examples:
      harness train cifar10-rn8s29-dense --data-dir ~/data
      harness train my-recipe.toml --out my-models --threads 1
    """
    import torch

    from harness.cli.console import err, progress_bar
    from harness.datasets import data_folder
    from harness.datasets.cifar import load_train
    from model_zoo.registry import package_folder
    from model_zoo.training.outcome import keep
    from model_zoo.training.recipe import Recipe
    from model_zoo.training.trainer import EpochRecord, Step, train

    chosen = Recipe.load(_recipe_path(recipe, package_folder("recipes")))
    if threads is not None:
        torch.set_num_threads(threads)
    images = load_train(chosen.data.dataset, data_folder(data_dir), download)
    with progress_bar("steps") as bar:
        task = bar.add_task(chosen.id, total=None, speed="–")

        def report(event: Step | EpochRecord) -> None:
            if isinstance(event, Step):
                bar.update(task, total=event.total, completed=event.done, speed=f"{event.images_per_second:.0f} images/s")
                return
            err.print(
                f"epoch {event.epoch}: loss {event.train_loss:.3f}, hold-out clean {100 * event.hold_out_clean_accuracy:.1f} %, "
                f"PGD-10 {100 * event.hold_out_pgd_accuracy:.1f} %",
                markup=False,
            )

        trained = train(chosen, images.images, images.labels, device, report)
    record = keep(trained, chosen, folder, len(images))
    err.print(f"model: {folder / record.checkpoint.file} ({record.checkpoint.bytes:,} bytes)", markup=False)
    err.print(f"record: {folder / record.id}.toml", markup=False)
    err.print(f"curve: {folder / record.id}.csv", markup=False)


def _recipe_path(recipe: str, shipped: Path) -> Path:
    from model_zoo.errors import UnknownNameError

    if recipe.endswith(".toml"):
        return Path(recipe)
    names = [path.stem for path in shipped.glob("*.toml")]
    if recipe not in names:
        raise UnknownNameError("recipe", recipe, names, "harness ls models")
    return shipped / f"{recipe}.toml"
