"""Train a recipe on image arrays, on a machine where only torch and numpy are installed.

Images and labels come from an .npz file: `x` uint8 [N, H, W, 3] and `y` integers [N]. Training writes OUT/ID.state.pt and OUT/ID.csv. To
turn them into a packed model with a record, run `harness train RECIPE --out OUT` on a machine where the other packages are installed.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch

from model_zoo.arrays import read_arrays
from model_zoo.errors import UserError
from model_zoo.files import place
from model_zoo.training.curve import EpochRecord, curve_csv
from model_zoo.training.engine import ENGINES
from model_zoo.training.recipe import Recipe, recipe_path
from model_zoo.training.sharing import first_process
from model_zoo.training.state import state_path
from model_zoo.training.trained import Step
from model_zoo.training.trainer import finished, train

# Seconds between two progress lines.
SPEAK_EVERY = 10.0
log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; `arguments` are those of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m model_zoo.training", description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n")[1]
    )
    parser.add_argument("recipe", help="id of a shipped recipe, or a TOML file")
    parser.add_argument("--arrays", type=Path, required=True, help="an .npz file with x and y")
    parser.add_argument("--out", type=Path, default=Path("trained"), help="folder to write to (default: trained)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; another number gives other weights (default: torch's)")
    parser.add_argument("--compile", action="store_true", dest="compiled", help="compile the network")
    parser.add_argument("--test-arrays", type=Path, help="an .npz file of test images, evaluated after every epoch, for the curve only")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="engine that computes the training (default: auto)")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO if first_process() else logging.ERROR)
    try:
        _train(options)
    except UserError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command continues\n")


def _train(options: argparse.Namespace) -> None:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipe = Recipe.load(recipe_path(options.recipe))
    state = state_path(options.out, recipe.id)
    last_report = time.perf_counter()

    def report(event: Step | EpochRecord) -> None:
        nonlocal last_report
        if isinstance(event, EpochRecord):
            log.info("%s", event)
        elif time.perf_counter() - last_report > SPEAK_EVERY:
            last_report = time.perf_counter()
            log.info("step %d of %d, %.0f images/s", event.done, event.total, event.images_per_second)

    trained = finished(recipe, state)
    if trained is None:
        test = None if options.test_arrays is None else read_arrays(options.test_arrays)
        trained = train(recipe, *read_arrays(options.arrays), options.device, report, state, options.compiled, options.engine, test)
    if first_process():
        curve = options.out / f"{recipe.id}.csv"
        place(curve, curve_csv(trained.curve).encode())
        log.info("state: %s\ncurve: %s", state, curve)


if __name__ == "__main__":
    main()
