"""Compare `cascade` with AutoAttack image by image: python -m benchmarks.cascade --help (minutes per model)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

import click
import numpy as np
import pandas as pd
import torch

from benchmarks.common import print_line
from harness import attacks
from harness.attacks.memory import Saved
from harness.attacks.native.cascade import FALLBACK
from harness.attacks.passes import passes
from harness.evaluation.subject import admit
from harness.evaluation.unit import attack_block
from harness.runner.partial import PartialFile
from harness.runner.plan import Unit, plan_request
from harness.runner.store import Store
from harness.runner.work import evaluate
from harness.selftest import masking, toys
from harness.statistics import wilson_interval
from model_zoo import registry
from model_zoo.files import place
from model_zoo.loading import load_model

REFERENCES = ("autoattack", "fast-autoattack")
GRADIENTS = ("apgd-ce", "apgd-t")


@dataclass
class Recorder:
    """Memory of an attack that keeps, after each component, the meter's passes and what was broken; it resumes nothing."""

    passes: dict[str, np.ndarray] = field(default_factory=dict)
    broken: dict[str, np.ndarray] = field(default_factory=dict)

    def load(self) -> Saved | None:
        """Return None."""
        return None

    def save(self, saved: Saved) -> None:
        """Keep the counts under the name of the last component."""
        name = saved.done[-1]
        self.passes[name] = (saved.tensors["meter.forwards"] + saved.tensors["meter.backwards"]).numpy().copy()
        self.broken[name] = (saved.tensors["broken_in"] < len(saved.done)).numpy().copy()


def run(model: str, n: int) -> pd.DataFrame:
    """Return the outcomes of `cascade` on the first `n` sample images, with passes after each component, indexed by image."""
    data = registry.get_record(model).data
    assert data is not None
    return pd.concat([_run_unit(unit) for unit in plan_request([model], ["cascade"], f"{data.train}-sample", n).units])


def _run_unit(unit: Unit) -> pd.DataFrame:
    recorder = Recorder()
    outcome, _ = evaluate(unit, load_model(unit.model), memory=cast(PartialFile, recorder))
    frame = outcome.frame.assign(radius=str(unit.threat.radius))
    right = (frame["clean_prediction"] == frame["label"]).to_numpy()
    spent, broken = np.zeros(int(right.sum()), dtype=np.int64), np.zeros(int(right.sum()), dtype=bool)
    for name in unit.attack.parameters["components"]:
        spent, broken = recorder.passes.get(name, spent), recorder.broken.get(name, broken)
        frame.loc[right, f"passes {name}"], frame.loc[right, f"broken {name}"] = spent, broken
    return frame


@cache
def references(store: Path) -> pd.DataFrame:
    """Return the stored outcomes of AutoAttack, by the package and ours, on the sample images, one row per image."""
    opened = Store(store)
    frames = [
        opened.read(manifest.unit).frame.assign(images=manifest.images)
        for manifest in opened.manifests()
        if manifest.labels.attack in REFERENCES and manifest.labels.dataset.endswith("-sample") and manifest.labels.norm == "Linf"
    ]
    # An image of several blocks counts once, in the largest.
    outcomes = pd.concat(frames).sort_values("images", ascending=False)
    return outcomes.drop_duplicates(["model", "attack", "radius", "image"])


def prefix_passes(attack: str, components: int) -> int:
    """Return the passes for an image that survives the first `components` of AutoAttack's `GRADIENTS`."""
    spec = attacks.get(attack)
    cost = passes(replace(spec, parameters={**spec.parameters, "components": list(GRADIENTS[:components])}), 10)[1]
    return cost.forwards + cost.backwards


def compared(model: str, ours: pd.DataFrame, store: Path) -> Iterator[dict[str, object]]:
    """Yield one row per reference attack and radius, over the images that the store has."""
    known = references(store)
    for (attack, radius), theirs in known[known["model"] == model].groupby(["attack", "radius"]):
        both = ours.merge(theirs, on=["image", "radius"], suffixes=("", " reference"))
        if not len(both):
            continue
        right = both[both["clean_prediction"] == both["label"]]
        spent, spent_reference = (right["forwards" + end] + right["backwards" + end] for end in ("", " reference"))
        row: dict[str, object] = {
            "model": model,
            "radius": radius,
            "reference": attack,
            "images": len(both),
            "right": len(right),
            "robust, reference": int(both["robust reference"].sum()),
            "robust, cascade": int(both["robust"].sum()),
            "missed": int((both["robust"] & ~both["robust reference"]).sum()),
            "extra": int((~both["robust"] & both["robust reference"]).sum()),
            "passes, reference": spent_reference.mean(),
            "passes, cascade": spent.mean(),
            "forwards, cascade": right["forwards"].mean(),
            "survivors, reference": spent_reference[right["robust reference"]].mean(),
            "survivors, cascade": spent[right["robust"]].mean(),
        }
        for count, name in enumerate(GRADIENTS, 1):
            is_broken = right["broken_by reference"].isin(GRADIENTS[:count])
            row[f"missed after {name}, reference"] = int((~is_broken & ~right["robust reference"]).sum())
            row[f"passes after {name}, reference"] = spent_reference.where(is_broken, prefix_passes(str(attack), count)).mean()
        for name in attacks.get("cascade").parameters["components"]:
            row[f"missed after {name}"] = int((~right[f"broken {name}"].astype(bool) & ~right["robust reference"]).sum())
            row[f"passes after {name}"] = right[f"passes {name}"].mean()
        yield row


def pooled(rows: pd.DataFrame) -> str:
    """Return misses and passes of all rows of one reference together, in a sentence."""

    def mean(name: str, weights: str = "right") -> float:
        return float(np.average(rows[name], weights=rows[weights]))

    images, missed = int(rows["images"].sum()), int(rows["missed"].sum())
    low, high = (100 * bound for bound in wilson_interval(missed, images))
    missed_by_apgd = int(rows["missed after apgd-t, reference"].sum())
    return (
        f"{len(rows)} rows, {images} images: missed {missed} = {100 * missed / images:.3f} % ({low:.3f} to {high:.3f}), "
        f"at most {int(rows['missed'].max())} in one row, extra {int(rows['extra'].sum())}, missed by APGD-CE + APGD-T {missed_by_apgd}; "
        f"passes per image right when clean: reference {mean('passes, reference'):.0f}, "
        f"APGD-CE + APGD-T {mean('passes after apgd-t, reference'):.0f}, cascade {mean('passes, cascade'):.0f}; per survivor: reference "
        f"{mean('survivors, reference', 'robust, reference'):.0f}, cascade {mean('survivors, cascade', 'robust, cascade'):.0f}"
    )


def table(rows: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    shown = {
        "model": "model",
        "radius": "radius",
        "images": "images",
        "robust, reference": "robust, reference",
        "robust, cascade": "robust, cascade",
        "missed": "missed",
        "extra": "extra",
        "passes, reference": "passes, reference",
        "passes after apgd-t, reference": "APGD-CE + APGD-T",
        "passes, cascade": "cascade",
        "survivors, reference": "survivors, reference",
        "survivors, cascade": "survivors, cascade",
    }
    yield "| " + " | ".join(shown.values()) + " |"
    yield "| " + " | ".join("---" if name in ("model", "radius") else "---:" for name in shown) + " |"
    for row in rows.to_dict("records"):
        values = [row[name] for name in shown]
        yield "| " + " | ".join(f"{value:.0f}" if isinstance(value, float) else str(value) for value in values) + " |"


def figure(rows: pd.DataFrame, path: Path) -> None:
    """Draw the share of images missed against passes per image, after each component of both attacks, for one reference."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    def means(name: str) -> float:
        return float(np.average(rows[name], weights=rows["right"]))

    images = rows["images"].sum()
    drawn, axes = pyplot.subplots(figsize=(6.0, 4.0), layout="constrained")
    names = attacks.get("cascade").parameters["components"]
    missed = [100 * rows[f"missed after {name}"].sum() / images for name in names]
    spent = [means(f"passes after {name}") for name in names]
    axes.plot(spent, missed, marker="o", label="cascade")
    for name, x, y in zip(names, spent, missed, strict=True):
        if name not in ("descent", *FALLBACK):  # those lie on other points
            axes.annotate(name, (x, y), xytext=(4, 6), textcoords="offset points", fontsize="small")
    spent = [means(f"passes after {name}, reference") for name in GRADIENTS] + [means("passes, reference")]
    missed = [100 * rows[f"missed after {name}, reference"].sum() / images for name in GRADIENTS] + [0.0]
    axes.plot(spent, missed, marker="s", label="AutoAttack")
    for name, x, y in zip((*GRADIENTS, "all"), spent, missed, strict=True):
        axes.annotate(name, (x, y), xytext=(4, 6), textcoords="offset points", fontsize="small")
    axes.set(xscale="log", xlabel="passes per image that is right when clean", ylabel="images missed, %")
    axes.margins(0.1)
    axes.legend(frameon=False, loc="upper left")
    pyplot.rcParams["svg.hashsalt"] = "cascade"
    drawn.savefig(path, metadata={"Date": None})


def planted(n: int) -> Iterator[str]:
    """Yield the lines of a table: AutoAttack and `cascade` on the first `n` images of every planted fault of `harness selftest`."""
    yield "| planted | images | robust, autoattack | robust, cascade | passes, autoattack | passes, cascade |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for kind in masking.KINDS:
        model, block = kind.make(0), toys.block().first(n)
        frames = [
            attack_block(admit(model, block), block, kind.threat, attacks.get(name), 0).frame.query("clean_prediction == label")
            for name in ("autoattack", "cascade")
        ]
        robust = " | ".join(str(int(frame["robust"].sum())) for frame in frames)
        spent = " | ".join(f"{(frame['forwards'] + frame['backwards']).mean():.0f}" for frame in frames)
        yield f"| {kind.name} | {n} | {robust} | {spent} |"


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, help="Model to attack; may be repeated.  [default: all that ship]")
@click.option("--n", default=250, show_default=True, help="Number of images, the first of the sample.")
@click.option("--store", default=Path("results"), type=click.Path(path_type=Path), show_default=True, help="Store with the references.")
@click.option("--reference", default="autoattack", type=click.Choice(REFERENCES), show_default=True, help="Attack of table and figure.")
@click.option("--planted", "planted_n", default=0, help="Attack this many images of every planted fault, and nothing else.  [default: 0]")
def main(out: Path, models: tuple[str, ...], n: int, store: Path, reference: str, planted_n: int) -> None:
    """Run `cascade` and compare it with the stored outcomes of AutoAttack.

    Outcomes per image go to OUT/MODEL-N.csv and are not computed again if that file exists; the comparison goes to OUT/cascade.csv, a table
    to the terminal, and a figure to OUT/cascade.svg.
    """
    torch.set_num_threads(1)
    if planted_n:
        for line in planted(planted_n):
            print_line(line)
        return
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for model in models or tuple(name for name in registry.model_ids() if registry.absence(name) is None):
        path = out / f"{model}-{n}.csv"
        if not path.exists():
            place(path, run(model, n).to_csv(index=False).encode())
            sys.stderr.write(f"{model}\n")
        rows += compared(model, pd.read_csv(path), store)
    comparison = pd.DataFrame(rows)
    comparison.to_csv(out / "cascade.csv", index=False, float_format="%.1f")
    chosen = comparison[comparison["reference"] == reference]
    for line in table(chosen):
        print_line(line)
    print_line(pooled(chosen))
    expected = passes(attacks.get("cascade"), 10)[1]
    print_line(f"at most {expected.forwards} + {expected.backwards} passes per image")
    figure(chosen, out / "cascade.svg")


if __name__ == "__main__":
    main()
