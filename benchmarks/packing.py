"""Size and loading time of the paper's ResNet-34 (keep ratio 0.01, p = 0.1) as a packed file: python benchmarks/packing.py.

The masks come from random scores; the mask of a trained network has the same counts and therefore the same size. One thread. Sizes are
compared with what the content needs: mask entropy, signs and batch norms, see model_zoo.footprint.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from model_zoo.footprint import measure
from model_zoo.packing.drawn import GENERATOR
from model_zoo.packing.frozen import freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.registry import package_folder
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe

RUNS = 3


def main() -> None:
    """Pack, load and compare both kinds of file: with stored signs and with signs drawn from a seed."""
    torch.set_num_threads(1)
    recipe = Recipe.load(package_folder("recipes") / "cifar10-rn34-pruned-binary-k01-p01.toml")
    model = freeze(build_model(recipe), recipe.architecture, False)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path, expected = Path(folder) / "model.safetensors", model(images)
        for signs in ("stored", "seed"):
            sign_source = {"generator": GENERATOR, "seed": recipe.seed, "weight_init": "binary"} if signs == "seed" else None
            path.write_bytes(pack(model, recipe.architecture, False, {"id": recipe.id}, sign_source))
            footprint = measure(model, path)
            needed_bytes = (footprint.seed_bytes if sign_source else footprint.entropy_bytes) or 0
            bound = needed_bytes + footprint.batch_norm_bytes
            walls, seconds = [], []
            for _ in range(1 + RUNS):
                wall, processor = time.perf_counter(), time.process_time()
                loaded = load_packed(path).model
                walls.append(time.perf_counter() - wall)
                seconds.append(time.process_time() - processor)
            comparison = "the same logits" if torch.equal(loaded(images), expected) else "OTHER LOGITS"
            sizes = f"{footprint.file_bytes / 1024:6.1f} KiB, {footprint.file_bytes / bound:.4f} of {bound / 1024:.1f} KiB needed"
            times = f"loaded in {min(walls[1:]):.2f} s ({min(seconds[1:]):.2f} s of processor time)"
            sys.stdout.write(f"signs {signs:<7} {sizes}; {times}, {comparison}\n")


if __name__ == "__main__":
    main()
