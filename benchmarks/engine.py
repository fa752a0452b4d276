"""Time saved by the engines and by the native AutoAttack: python -m benchmarks.engine [PART ...].

Parts: engines, forward pass and input gradient per model; attack, the whole AutoAttack on eight images that survive, small models;
verdicts, the native AutoAttack compared with the stored outcomes of the package, image by image; compiled, bfloat16 through
torch.compile, which needs a C++ compiler; resnet34, part `attack` for the paper's network. The first takes two minutes, the others five
to forty each; all parts run if none is named.

Contestants run in turn on the same model and images, with the same threads, in one process; the result is the median of the ratios of
neighbouring runs, with minimum and maximum. Processor time on one thread, wall time on two. Prints Markdown; part `engines` also draws
docs/speed.svg. ResNet-34 has no trained weights in this repository: its masks are random, with the counts of the allocation rule, and its
batch norms have seen sample images.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.common import ROUNDS, print_line, ratios, roofline, schedule_points, spread
from harness import attacks, datasets, engines
from harness.attacks import AttackCall
from harness.attacks.passes import passes
from harness.engines.equivalence import compare
from harness.engines.sparse import SparseModel
from harness.evaluation.referee import judge
from harness.runner.results import read
from harness.runner.suite import get_suite
from model_zoo.classifier import Classifier
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.loading import load_model
from model_zoo.packing.frozen import freeze
from model_zoo.pruning.allocation import layer_keep_counts
from model_zoo.registry import package_folder
from model_zoo.threat import ThreatModel
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe

BATCH, VERDICTS = 64, 250
SMALL = ("cifar10-rn8w32-pruned-binary-k01-p01", "cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8w32-pruned-binary-k10-p01")
DENSE = ("cifar10-rn8w32-dense-binary", "cifar10-rn8w28-dense", "cifar10-rn8s29-dense")
FIGURE = Path(__file__).parents[1] / "docs" / "speed.svg"


def resnet34(power: float) -> Classifier:
    """Return the paper's network at keep ratio 0.01 with random masks and allocation power `power`."""
    recipe = Recipe.load(package_folder("recipes") / "cifar10-rn34-pruned-binary-k01-p01.toml")
    torch.manual_seed(0)
    model = build_model(recipe)
    layers = [layer for layer in model.modules() if isinstance(layer, PrunedBinaryConv2d)]
    for layer, kept in zip(layers, layer_keep_counts([layer.scores.numel() for layer in layers], 0.01, power), strict=True):
        layer.set_kept(kept)
    images = datasets.load("cifar10-sample").first(BATCH).tensors()[0]
    model.train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # cumulative average, from the first batch on
    with torch.no_grad():
        model(images)
    return freeze(model, recipe.architecture, False)


def both(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Return a function that runs a forward pass and computes the gradient with respect to the images."""

    def work() -> None:
        point = images.clone().requires_grad_(True)
        torch.autograd.grad(model(point).sum(), point)

    return work


def measure_engines() -> None:
    """Time forward pass and input gradient of every model, on one thread and on two."""
    images = datasets.load("cifar10-sample").first(BATCH).tensors()[0]
    models: dict[str, nn.Module] = {f"ResNet-34, keep 0.01, p = {power}": resnet34(power) for power in (0.1, 1.0)}
    models |= {name: load_model(name) for name in (*SMALL, *DENSE)}
    print_line("| model | threads | dense, ms an image | folded, times as fast | bf16, times | sparse, ms an image | sparse, times |")
    print_line("| --- | --- | --- | --- | --- | --- | --- |")
    for name, model in models.items():
        folded, fast, half = (engines.build(model, engine) for engine in ("folded", "sparse", "bf16"))
        fits = engines.prepare(model, half, "bf16", images).model is half
        refusal = compare(model, fast, images).refusal
        assert refusal is None, refusal
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rounds = 3 if name.startswith("ResNet-34") else ROUNDS
            dense, seconds, faster = ratios(both(model, images), both(fast, images), rounds)
            _, _, folding = ratios(both(model, images), both(folded, images), rounds)
            halving = spread(ratios(both(model, images), both(half, images), rounds)[2]) if fits else "refused"
            scale = 1e3 / BATCH
            print_line(
                f"| {name} | {threads} | {dense * scale:.3f} | {spread(folding)} | {halving} | {seconds * scale:.3f} | {spread(faster)} |"
            )
        torch.set_num_threads(1)
    draw(engines.build(models["ResNet-34, keep 0.01, p = 0.1"], "sparse"), images)


def draw(model: nn.Module, images: torch.Tensor) -> None:
    """Draw the roofline figure: each layer's additions per second against its additions per byte of values read and written."""
    assert isinstance(model, SparseModel)
    points = schedule_points(model.runner(*images.shape[2:]).schedule, both(model, images))
    print_line(f"\n{roofline(points, FIGURE, 'speed')}\n")


def _far(model: nn.Module, images: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` images whose linearised decision boundary is farthest in Linf."""
    point = images.clone().requires_grad_(True)
    first, second = model(point).topk(2).values.T
    (gradient,) = torch.autograd.grad((first - second).sum(), point)
    distance = (first - second).detach() / gradient.flatten(1).abs().sum(1)
    return images[distance.topk(count).indices].contiguous()


def _attack(name: str, model: nn.Module) -> None:
    """Print one row: AutoAttack on eight images that survive, by the package on the stored model and natively on engine sparse."""
    fast = engines.build(model, "sparse")
    images = _far(fast, datasets.load("cifar10-sample").first(BATCH).tensors()[0], 8)
    labels, threat = model(images).argmax(1), ThreatModel.parse("Linf 1/255000")
    both(fast, images)()
    seconds, counts = [], []
    for spec, attacked in ((attacks.get("autoattack"), model), (attacks.get("fast-autoattack"), fast)):
        begun = time.process_time()
        result = attacks.run(spec, AttackCall(attacked, images, labels, threat, 0), classes=10)
        seconds.append(time.process_time() - begun)
        assert not any(result.broken_by), "an image was broken at a radius so small"
        counts.append("{0.forwards} + {0.backwards}".format(passes(spec, 10)[1]))
    print_line(f"| {name} | {seconds[0]:.1f} | {seconds[1]:.1f} | {seconds[0] / seconds[1]:.1f} | {' | '.join(counts)} |")


def _head() -> None:
    print_line("\n| model | AutoAttack by the package, s | ours, s | times as fast | passes an image, package | ours |")
    print_line("| --- | --- | --- | --- | --- | --- |")


def measure_attack() -> None:
    """Time AutoAttack on the small models."""
    _head()
    for name in (*SMALL, *DENSE):
        _attack(name, load_model(name))


def measure_resnet34() -> None:
    """Time AutoAttack on the paper's network; the package takes half an hour."""
    _head()
    _attack("ResNet-34, keep 0.01, p = 0.1", resnet34(0.1))


def measure_verdicts() -> None:
    """Compare the native AutoAttack on two engines with the package's stored outcomes, image by image, both refereed."""
    stored = read(Path("results"))
    stored = stored[(stored["attack"] == "autoattack") & (stored["radius"] == "8/255") & (stored["dataset"] == "cifar10-sample")]
    sample, threat = datasets.load("cifar10-sample").first(VERDICTS), ThreatModel.parse("Linf 8/255")
    x, y = sample.tensors()
    agree = dict.fromkeys(("sparse", "bf16"), 0)
    total = 0
    print_line("\n| model | images | robust, package | robust, ours, sparse | differ | robust, ours, bf16 | differ |")
    print_line("| --- | --- | --- | --- | --- | --- | --- |")
    for name in get_suite("main").models:
        package_outcomes = stored[stored["model"] == name].set_index("image")["robust"]
        if package_outcomes.index.isin(sample.index).sum() != VERDICTS:
            continue
        model, expected = load_model(name), package_outcomes.loc[sample.index].to_numpy(dtype=bool)
        right = (model(x).argmax(1) == y).nonzero().flatten()
        row = f"| {name} | {VERDICTS} | {expected.sum()}"
        for engine in agree:
            attacked = engines.prepare(model, engines.build(model, engine), engine, x).model
            assert attacked is not model, f"{engine} refused"
            result = attacks.run(attacks.get("fast-autoattack"), AttackCall(attacked, x[right], y[right], threat, 0), classes=10)
            robust = np.zeros(VERDICTS, dtype=bool)
            robust[right.numpy()] = ~judge(model, x[right], result.adversarial, y[right], threat).broken.numpy()
            row += f" | {robust.sum()} | {(expected != robust).sum()}"
            agree[engine] += int((expected == robust).sum())
        print_line(row + " |")
        total += VERDICTS
    for engine, same in agree.items():
        print_line(f"\n{engine}: outcomes agree on {same} of {total} images ({100 * same / max(total, 1):.2f} %)")


def measure_compiled() -> None:
    """Time bfloat16 through torch.compile, on the folded network."""
    images, model = datasets.load("cifar10-sample").first(BATCH).tensors()[0], resnet34(0.1)
    compiled = torch.compile(engines.build(model, "folded").bfloat16())

    def half(batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = compiled(batch.bfloat16()).float()
        return logits

    _, _, speedups = ratios(both(half, images), both(engines.build(model, "sparse"), images), 3)  # type: ignore[arg-type]
    print_line(f"\nResNet-34, keep 0.01, p = 0.1: sparse is {spread(speedups)} times as fast as compiled bfloat16, one thread")


PARTS = {
    "engines": measure_engines,
    "attack": measure_attack,
    "verdicts": measure_verdicts,
    "compiled": measure_compiled,
    "resnet34": measure_resnet34,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or PARTS:
        PARTS[chosen]()
