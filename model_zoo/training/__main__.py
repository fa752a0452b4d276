"""Train a recipe from arrays, where torch and numpy are all that is installed.

Images and labels come from an .npz file: `x` uint8 [N, H, W, 3] and `y` integers [N]. What is left, OUT/ID.state.pt and OUT/ID.csv,
becomes a packed model with a record by `harness train RECIPE --out OUT` on a machine that has the rest.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.training.curve import curve_csv
from model_zoo.training.recipe import Recipe
from model_zoo.training.state import state_path
from model_zoo.training.trainer import EpochRecord, Step, finished, train

RECIPES = Path(__file__).parents[1] / "recipes"
# Seconds between two lines about where training is.
SPEAK_EVERY = 10.0


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, 3] and labels int64 [N] from an .npz file with `x` and `y`; nothing in it is unpickled.

    Raises
    ------
    DamagedFileError
        If the file is not that.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["x"], arrays["y"]
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except Exception as error:
        # A damaged archive makes zipfile, zlib, tokenize and numpy raise a dozen kinds of exception between them.
        raise DamagedFileError(path, "arrays x and y", str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or labels.shape != images.shape[:1]
        or labels.dtype.kind not in "iu"
    ):
        raise DamagedFileError(
            path, "x uint8 [N, H, W, 3] and y integers [N]", f"{images.dtype} {list(images.shape)}, {labels.dtype} {list(labels.shape)}"
        )
    return images, labels.astype(np.int64)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m model_zoo.training", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    parser.add_argument("recipe", help="the id of a recipe that ships, or a TOML file")
    parser.add_argument("--arrays", type=Path, required=True, help="an .npz file with x and y")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="where to write (default: trained)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; part of what decides the weights (default: torch's)")
    parser.add_argument("--compile", action="store_true", dest="compiled", help="compile the network")
    given = parser.parse_args(arguments)
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    recipe = Recipe.load(Path(given.recipe) if given.recipe.endswith(".toml") else RECIPES / f"{given.recipe}.toml")
    state = state_path(given.out, recipe.id)
    spoken = time.perf_counter()

    def report(event: Step | EpochRecord) -> None:
        nonlocal spoken
        if isinstance(event, EpochRecord):
            line = f"epoch {event.epoch}: loss {event.train_loss:.3f}, hold-out clean {100 * event.hold_out_clean_accuracy:.1f} %, "
            print(line + f"PGD-10 {100 * event.hold_out_pgd_accuracy:.1f} %", file=sys.stderr)
        elif time.perf_counter() - spoken > SPEAK_EVERY:
            spoken = time.perf_counter()
            print(f"step {event.done} of {event.total}, {event.images_per_second:.0f} images/s", file=sys.stderr)

    trained = finished(recipe, state)
    if trained is None:
        trained = train(recipe, *read_arrays(given.arrays), given.device, report, state, given.compiled)
    (given.out / f"{recipe.id}.csv").write_text(curve_csv(trained.curve))
    print(f"state: {state}\ncurve: {given.out / recipe.id}.csv", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
