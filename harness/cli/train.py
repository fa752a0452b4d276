"""`harness train`: train a recipe's model and write it as a packed file, with a record and the training curve."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import data_dir_option, download_option, image_options, json_option


@click.command("train")
@click.argument("recipe")
@image_options(
    "Train on these images in place of the recipe's: svhn, folder:PATH, FILE.npz, ... (docs/data.md).", names=("--dataset", "--arrays")
)
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("trained"), show_default=True, help="Folder to write to.")
@data_dir_option("Folder with the training images.")
@download_option()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device that trains.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Number of CPU threads; another number gives other weights.  [default: torch's]"
)
@click.option(
    "--compile", "compiled", is_flag=True, help="Compile the network with torch.compile: starts more slowly, runs faster on a GPU."
)
@click.option("--test", metavar="DATASET", help="Also evaluate this data set after every epoch; it is part of the curve only.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "dense", "sparse"]),
    default="auto",
    show_default=True,
    help="PyTorch (dense), or kernels that compute only with kept weights (sparse); auto chooses by a fixed rule.",
)
@json_option("Print the record of the trained model as one JSON object, for scripts.")
def command(
    recipe: str,
    dataset: str | None,
    folder: Path,
    data_dir: Path | None,
    download: bool,
    device: str,
    threads: int | None,
    compiled: bool,
    test: str | None,
    engine: str,
    as_json: bool,
) -> None:
    """Train a model adversarially from a RECIPE: the id of a shipped recipe, or a TOML file of your own.

    Writes a packed checkpoint, a record and the training curve (CSV and figure); `harness run --model OUT/ID.toml` then attacks it.
    The same recipe, images and number of threads on one machine give the same weights.

    --dataset trains on other images: classes and channels become theirs, and so does a normalisation that is named after a data set. The
    recipe's threat model stays.

    The same command with the same --out continues a run that was stopped or killed; its state is in OUT/ID.state.pt until it ends. `python
    -m model_zoo.training` trains if only torch and numpy are installed; this command then converts its finished state to a model
    without training again.

    \b
    Examples:
      harness train cifar10-rn8s29-dense --data-dir ~/data
      harness train my-recipe.toml --out my-models --threads 1 --test cifar10-sample
      harness train cifar10-rn8w28-dense --dataset svhn --data-dir ~/data
      harness train my-recipe.toml --arrays digits.npz
      harness train cifar10-rn18-pruned-binary-k01-p01 --device cuda --compile
      torchrun --nproc-per-node 4 -m harness.cli.main train my-recipe.toml --device cuda
    """
    import torch

    from harness.api.training import train
    from harness.cli.console import err, progress_bar
    from model_zoo.training.curve import EpochRecord
    from model_zoo.training.sharing import first_process
    from model_zoo.training.trained import Step

    if threads is not None:
        torch.set_num_threads(threads)
    first, state = first_process(), folder
    with progress_bar("steps") as bar:
        bar.disable = bar.disable or not first
        task = bar.add_task("", total=None, speed="–")

        def on_state(model: str, path: Path) -> None:
            nonlocal state
            state = path
            bar.update(task, description=model)
            if path.is_file() and first:
                err.print(f"continuing {path}", markup=False)

        def on_event(event: Step | EpochRecord) -> None:
            if isinstance(event, Step):
                bar.update(task, total=event.total, completed=event.done, speed=f"{event.images_per_second:.0f} images/s")
            elif first:
                err.print(str(event), markup=False)

        try:
            record = train(
                recipe,
                dataset=dataset,
                out=folder,
                data_dir=data_dir,
                download=download,
                device=device,
                compiled=compiled,
                engine=engine,
                test=test,
                on_event=on_event,
                on_state=on_state,
            )
        except KeyboardInterrupt:
            bar.stop()
            err.print(f"stopped; {state} is at most a minute old. The same command continues.", markup=False)
            raise SystemExit(130) from None
    if record is not None:
        err.print(f"model: {folder / record.checkpoint.file} ({record.checkpoint.bytes:,} bytes)", markup=False)
        err.print(f"record: {folder / record.id}.toml", markup=False)
        err.print(f"curve: {folder / record.id}.csv, {record.id}.png", markup=False)
        if as_json:
            click.echo(record.model_dump_json(indent=1, exclude_none=True))
