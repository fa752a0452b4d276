"""False alarms and power of the verdict: python -m benchmarks.verdict_power OUT [planted | honest | table].

`planted` diagnoses twenty instances of every kind of planted fault on 250 images, `honest` every shipped model on the 1,000 sample images
of its data. Both write one JSON file per diagnosis to OUT and resume an interrupted run (an hour or two on one core). `table` prints the
results as Markdown: how often each kind is caught, how many honest models are accused on 60, 250 and 1,000 images and in 1,000 random
draws of as many images, and the largest share of images that counts against an honest model in each check.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import datasets
from harness.attacks.native.losses import margin
from harness.evaluation.diagnostics import Diagnostics
from harness.evaluation.probes import ascend
from harness.evaluation.verdict import CHECKS, SIGNIFICANCE, judge
from harness.runner import protocol
from harness.runner.diagnoses import diagnoses, run_diagnosis
from harness.runner.store import Store
from harness.selftest import masking, toys
from model_zoo import registry
from model_zoo.files import place

INSTANCES, DRAWS = 20, 1000
SIZES = (60, 250, 1000)


def planted(out: Path) -> None:
    """Diagnose every instance of every kind; the true robust accuracy is that of the honest network with the same classes."""
    x, y = toys.images()
    for instance in range(INSTANCES):
        for kind in masking.KINDS:
            path = out / f"planted-{kind.pitfall}-{instance}.json"
            if path.exists():
                continue
            honest_robust = ascend(kind.honest(instance), x, y, kind.threat.epsilon, margin, 50, 1).robust
            diagnostics = masking.measured(kind.make(instance), toys.block(), kind.threat)
            _save(path, {"true": float(honest_robust.float().mean()), "diagnostics": diagnostics.to_dict()})


def honest(out: Path) -> None:
    """Diagnose every shipped model on all sample images of its data."""
    for model in registry.model_ids():
        if registry.absence(model) is None:
            record = registry.get_record(model)
            block = datasets.load(f"{record.data.train}-sample")
            diagnosis = run_diagnosis(model, block, protocol.default_threat("Linf", record.data.train), Store(out))
            sys.stderr.write(f"{model}: {diagnosis.verdict}\n")


def table(out: Path) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield "| planted | claimed, % | true, % | over twice the true one | caught of those |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for kind in masking.KINDS:
        rows = [json.loads(path.read_text()) for path in sorted(out.glob(f"planted-{kind.pitfall}-*.json"))]
        measured = [Diagnostics.from_dict(row["diagnostics"]) for row in rows]
        claims = [diagnostics.robust["ce"].count("1") / diagnostics.images for diagnostics in measured]
        overclaimed = [row for row, claim in enumerate(claims) if claim > 2 * rows[row]["true"]]
        caught = sum(judge(measured[row]).level != "ok" for row in overclaimed)
        truth = [row["true"] for row in rows]
        yield f"| {kind.name} | {_range(claims)} | {_range(truth)} | {len(overclaimed)} of {len(rows)} | {caught} |"
    by_model = {diagnosis.model: diagnosis.diagnostics for diagnosis in diagnoses(Store(out))}
    yield ""
    yield "| images | honest models | accused | draws of as many images in which any is accused |"
    yield "| ---: | ---: | --- | ---: |"
    for n in SIZES:
        accused = [
            f"{name} ({judge(diagnostics.first(n)).reasons[0].kind})"
            for name, diagnostics in by_model.items()
            if judge(diagnostics.first(n)).level != "ok"
        ]
        yield f"| {n} | {len(by_model)} | {', '.join(accused) or 'none'} | {_share_of_draws(list(by_model.values()), n)} |"
    yield ""
    yield "| check | honest models may have | most that one has of 1,000 images | images that raise an alarm: of 30, 110, 450 |"
    yield "| --- | ---: | ---: | ---: |"
    for check in CHECKS:
        counts = [(check.count(diagnostics), name) for name, diagnostics in by_model.items()]
        (failing, checked), name = max(counts, key=lambda item: item[0][0] / max(item[0][1], 1))
        alarms = ", ".join(str(_alarm_count(image_count, check.share.value)) for image_count in (30, 110, 450))
        worst = f"{100 * failing / max(checked, 1):.1f} % ({failing} of {checked}, {name})"
        yield f"| {check.kind} | {100 * check.share.value:g} % | {worst} | {alarms} |"


def _share_of_draws(honest_models: list[Diagnostics], n: int) -> str:
    """Return in how many random draws of `n` images any honest model is accused; of all images there is only one draw."""
    generator = np.random.default_rng(0)
    total = min((diagnostics.images for diagnostics in honest_models), default=0)
    if n >= total:
        return "–"
    chosen = np.zeros((DRAWS, total), dtype=np.int64)
    for row in chosen:
        row[generator.permutation(total)[:n]] = 1
    alarm = np.zeros(DRAWS, dtype=bool)
    for diagnostics in honest_models:
        for check in CHECKS:
            marks = np.array(list((check.images(diagnostics) or "-" * total)[:total]))
            failing, checked = chosen @ (marks == "1"), chosen @ (marks != "-")
            limits = np.array([_alarm_count(count, check.share.value) for count in range(int(checked.max()) + 1)])
            alarm |= failing >= limits[checked]
    return f"{int(alarm.sum())} of {DRAWS}"


@cache
def _alarm_count(image_count: int, share: float) -> int:
    """Return how many of `image_count` images must count against a model to raise an alarm."""
    from scipy.stats import binom

    return int(binom.isf(SIGNIFICANCE, image_count, share)) + 1 if image_count else 1


def _range(values: list[float]) -> str:
    return f"{100 * min(values):.0f} to {100 * max(values):.0f}" if values else "–"


def _save(path: Path, content: dict[str, Any]) -> None:
    place(path, json.dumps(content).encode())
    sys.stderr.write(f"{path.name}\n")


def main() -> None:
    """Run the named parts, by default all."""
    out, parts = Path(sys.argv[1]), sys.argv[2:] or ["planted", "honest", "table"]
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if "planted" in parts:
        planted(out)
    if "honest" in parts:
        honest(out)
    if "table" in parts:
        sys.stdout.write("\n".join(table(out)) + "\n")


if __name__ == "__main__":
    main()
