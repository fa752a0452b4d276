"""Fixtures for the page tests: a small store of constructed outcomes (no attack runs) and its page."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import datasets
from harness.evaluation.outcomes import COLUMNS, UnitOutcome
from harness.reporting.page.boards import Results
from harness.runner import protocol
from harness.runner.diagnoses import diagnosed, identity
from harness.runner.identity import unit_id
from harness.runner.plan import Plan, Unit, plan_request
from harness.runner.results import find
from harness.runner.store import Store
from model_zoo import registry
from model_zoo.catalogue import catalogue
from tests.harness.evaluation.test_verdict import HONEST

PRUNED, DENSE, HUNDRED, IDLE = (
    "cifar10-rn8w32-pruned-binary-k05-p01",
    "cifar10-rn8s29-dense",
    "cifar100-rn8w28-dense",
    "cifar10-rn8w28-dense",
)
HOSTILE = "hostile"
TITLE = "<script>alert('title')</script> & \"quoted\""
REASON = "the GPU was <b>too hot</b>"


@dataclass(frozen=True)
class Material:
    """Arguments of `harness.reporting.page.site.build`."""

    store: Store
    results: list[Results]
    models: dict[str, str]

    def build(self, folder: Path) -> list[Path]:
        from harness.reporting.page.site import build

        return build(self.store, list(self.store.read_all()), self.results, self.models, folder)


def hostile_record(folder: Path) -> Path:
    """Write the record of a shipped model with another id, markup in its title and another pruning score; return its path."""
    original = "cifar10-rn8w32-pruned-binary-k20-p01"
    text = registry.record_path(original).read_text().replace(f'id = "{original}"', f'id = "{HOSTILE}"')
    title = next(line for line in text.splitlines() if line.startswith("title"))
    path = folder / f"{HOSTILE}.toml"
    path.write_text(text.replace(title, f"title = {json.dumps(TITLE)}").replace('scored = "learned"', 'scored = "random"'))
    checkpoint = registry.checkpoint_path(original)
    shutil.copy(checkpoint, folder / checkpoint.name)
    return path


def store_outcome(store: Store, unit: Unit, robust: int, at_fault: bool = False) -> None:
    """Store an outcome: the first `robust` images are robust, the last four misclassified without an attack, the others broken."""
    n, classes = len(unit.block), len(unit.block.classes)
    label = unit.block.labels
    broken = np.arange(robust, n - 4)
    rows = []
    for index in range(n):
        is_robust, is_wrong = index < robust, index >= n - 4
        wrong = int(label[index] + 1) % classes
        linf, l2 = (0.0, 0.0) if is_robust or is_wrong else (float(unit.threat.radius) if unit.threat.norm == "Linf" else 0.05, 0.4)
        broken_by = None if is_robust else ("clean" if is_wrong else unit.attack.name)
        clean = wrong if is_wrong else int(label[index])
        adversarial = wrong if not is_robust else clean
        rows.append((int(unit.block.index[index]), int(label[index]), clean, adversarial, is_robust, is_robust, broken_by, linf, l2, 10, 9))
    change = np.full((len(broken[:8]), 3, 32, 32), 8 / 255, np.float16)
    change[:, :, ::2] *= -1
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    store.write(unit, UnitOutcome(frame, unit.block.index[broken[:8]], change, (), at_fault, 0), {"seconds": 1.0})


def joined(*plans: Plan) -> Plan:
    return Plan(tuple(unit for plan in plans for unit in plan.units))


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("material")
    store = Store(root / "store")
    hostile = str(hostile_record(root))
    cifar10_models, attacks = [PRUNED, DENSE, hostile], ["pgd", "cw-linf", "cw-l2"]
    full = joined(plan_request(cifar10_models, attacks, "cifar10-sample", 40), plan_request([HUNDRED], ["pgd"], "cifar100-sample", 40))
    short = plan_request(cifar10_models, ["pgd"], "cifar10-sample", 12)
    for unit in full.units:
        if unit.record.id != DENSE:
            store_outcome(store, unit, {PRUNED: 10, HOSTILE: 14, HUNDRED: 5}[unit.record.id] + (unit.attack.name == "pgd"))
    # The dense model has outcomes for fewer images than planned.
    for unit in plan_request([DENSE], attacks, "cifar10-sample", 12).units:
        store_outcome(store, unit, 4)
    for unit in short.units:
        store_outcome(store, unit, 4)
    extra = plan_request([PRUNED], ["pgd", "cw-linf"], "cifar10-sample", 16).units
    store_outcome(store, extra[0], 8)
    store.invalidate(extra[0].id, REASON)
    store_outcome(store, extra[1], 8, at_fault=True)
    (store.units / f"{'0' * 64}.json").write_text("{}")
    _diagnose(store)
    _selftest(store)
    references = {PRUNED: PRUNED, DENSE: DENSE, HUNDRED: HUNDRED, HOSTILE: hostile}
    stored = list(store.read_all())
    models, verdicts = catalogue(references), diagnosed(store, references)
    results = [
        Results(name, find(stored, plan).outcomes, models, pd.DataFrame(plan.expected()), verdicts)
        for name, plan in (("full", full), ("short", short))
    ]
    return Material(store, results, {**references, IDLE: IDLE})


def _diagnose(store: Store) -> None:
    """Store diagnoses: the pruned model is ok, the model with 100 classes is masked; other models have none."""
    (store.root / "diagnostics").mkdir()
    masked = HONEST.to_dict() | {"no_gradient": dict.fromkeys(("ce", "margin", "dlr"), "1" * 250 + "-" * 250)}
    for model, diagnosis in ((PRUNED, HONEST.to_dict()), (HUNDRED, masked)):
        record = registry.get_record(model)
        threat = protocol.default_threat("Linf", record.data.train)
        labels = {"model": model, "dataset": f"{record.data.train}-sample", "threat": str(threat)}
        sample = datasets.load(labels["dataset"])
        block = sample.first(min(250, len(sample)))
        content = {
            "schema": 2,
            "labels": labels,
            "identity": identity(record, (), block, threat),
            "diagnostics": diagnosis,
        }
        name = unit_id(content["identity"])
        (store.root / "diagnostics" / f"{name}.json").write_text(json.dumps(content))


def _selftest(store: Store) -> None:
    row = {"pitfall": "1", "planted": "logits <i>too large</i>", "kind": "model", "result": "caught", "by": "a probe", "PGD-CE, %": "100.0"}
    thresholds = [{"name": "significance", "value": 0.01, "reason": "a level"}]
    (store.root / "selftest.json").write_text(json.dumps({"rows": [row], "thresholds": thresholds}))


@pytest.fixture(scope="session")
def page(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the built page."""
    folder = tmp_path_factory.mktemp("page")
    assert material.build(folder)[0] == folder / "index.html"
    return folder
