"""Check whether both engines train to the same result: python -m benchmarks.engines_agree ARRAYS OUT [--seeds N] [--images N] [--epochs N].

ARRAYS is an .npz file with the CIFAR-10 training images (x uint8 [N, 32, 32, 3], y). Trains the zoo's small network
(cifar10-rn8w32-pruned-binary-k10-p01) with fewer images and epochs from several seeds on engine dense and on engine sparse, one thread, and
compares the accuracies on 1,000 held-out images after the last epoch. The engines differ in the statistics that the attack uses and in
rounding. Takes about a quarter of an hour; an interrupted run is resumed. Prints Markdown; the exit status is 1 if the mean PGD-10
accuracies differ by more than two pooled standard deviations.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

from benchmarks.common import print_line
from model_zoo.arrays import read_arrays
from model_zoo.training.recipe import Recipe, recipe_path
from model_zoo.training.trainer import train

RECIPE = "cifar10-rn8w32-pruned-binary-k10-p01"
ENGINES = ("dense", "sparse")
# Largest difference of the means, in pooled standard deviations.
ALLOWED = 2.0


def recipe_of(seed: int, images: int, epochs: int) -> Recipe:
    """Return the small network's recipe with one seed, on the first `images` of the shuffled training split."""
    recipe = Recipe.load(recipe_path(RECIPE))
    return dataclasses.replace(
        recipe,
        id=f"seed{seed}",
        seed=seed,
        data=dataclasses.replace(recipe.data, images=images),
        optimiser=dataclasses.replace(recipe.optimiser, epochs=epochs),
    )


def verdict(dense: list[float], sparse: list[float]) -> tuple[str, bool]:
    """Return a sentence about the difference of the means, and whether it is at most `ALLOWED` pooled standard deviations."""
    pooled = ((stdev(dense) ** 2 + stdev(sparse) ** 2) / 2.0) ** 0.5
    difference = mean(sparse) - mean(dense)
    is_close = abs(difference) <= ALLOWED * pooled
    summary = " and ".join(f"{100 * mean(values):.2f} ({100 * stdev(values):.2f})" for values in (dense, sparse))
    return f"mean PGD-10 (standard deviation) {summary}: {100 * difference:+.2f}, pooled standard deviation {100 * pooled:.2f}", is_close


def main() -> int:
    """Train, print all accuracies and the verdict, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arrays", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=17000, help="1,000 of them held out")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = read_arrays(options.arrays)
    print_line("| engine | seed | clean | PGD-10 | loss | minutes |\n| --- | --- | --- | --- | --- | --- |")
    robust: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for seed in range(options.seeds):
        for engine in ENGINES:
            state = options.out / f"{engine}-seed{seed}.state.pt"
            last = train(recipe_of(seed, options.images, options.epochs), images, labels, state=state, engine=engine).curve[-1]
            robust[engine].append(last.hold_out_pgd_accuracy)
            clean, attacked = 100 * last.hold_out_clean_accuracy, 100 * last.hold_out_pgd_accuracy
            print_line(f"| {engine} | {seed} | {clean:.1f} | {attacked:.1f} | {last.train_loss:.3f} | {last.seconds / 60:.1f} |")
    text, agree = verdict(*robust.values())
    print_line(f"\n{text}; {'the engines agree' if agree else 'the engines do not agree'}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
