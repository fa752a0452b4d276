"""Time to read a store of a million outcomes: python benchmarks/query.py [UNITS].

The store is generated in a temporary folder: copies of one unit under other names (by default 4,000 units of 250 images). The benchmark
times what `harness.results()` and a report do first.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from harness.runner.execute import execute
from harness.runner.plan import plan_request
from harness.runner.results import outcomes
from harness.runner.store import Store

MODEL = "cifar10-rn8s29-dense-binary"
UNITS = 4000


def main() -> None:
    """Generate the store, time reading and grouping, and remove it."""
    unit_count = int(sys.argv[1]) if len(sys.argv) > 1 else UNITS
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        plan = plan_request([MODEL], ["pgd-20"], "cifar10-sample", 250)
        execute(plan, store)
        unit = plan.units[0].id
        manifest, content = store.manifest(unit), (store.units / f"{unit}.parquet").read_bytes()
        for index in range(1, unit_count):
            name = f"{index:064x}"
            changes = {"unit": name, "model": f"model-{index // 8:04}", "attack": f"attack-{index % 8}"}
            labels = manifest.labels.model_copy(update=changes)
            (store.units / f"{name}.parquet").write_bytes(content)
            (store.units / f"{name}.json").write_bytes(manifest.model_copy(update={"unit": name, "labels": labels}).to_bytes())
        start = time.perf_counter()
        frame, _ = outcomes(store)
        read_end = time.perf_counter()
        table = frame.groupby(["model", "attack"])["robust"].mean().unstack()
        query_end = time.perf_counter()
    sys.stdout.write(f"{len(frame):,} outcomes of {unit_count:,} units: read and checked in {read_end - start:.1f} s, ")
    sys.stdout.write(f"accuracy of {table.shape[0]} models under {table.shape[1]} attacks in {query_end - read_end:.2f} s\n")


if __name__ == "__main__":
    main()
