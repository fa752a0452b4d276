"""Tests that tables can filter models by how they were pruned, using the taxonomy of AdversarialPruningBenchmark in the records."""

from typing import Any

import pandas as pd

from harness.reporting import tables
from harness.reporting.frames import summary
from harness.reporting.literature import literature
from model_zoo.catalogue import pruned
from model_zoo.publications import published
from model_zoo.registry import get_record
from tests.harness.reporting.conftest import rows

SHIPPED = "cifar10-rn8w32-pruned-binary-k10-p01"


def model(name: str, **changes: Any) -> dict[str, Any]:
    common = {"family": "sparse", "method": name, "weight_bits": 32, "keep_ratio": 0.1, "sparsity": 0.9, "bytes": 1000}
    return {"id": name, **common, **dict.fromkeys(pruned(get_record("cifar10-rn8w28-dense"))), **changes}


def test_a_record_gives_the_taxonomy_of_its_model() -> None:
    taxonomy = pruned(get_record(SHIPPED))
    assert taxonomy == {"pruned_when": "before", "pruned_scored": "learned", "pruned_structured": False, "pruned_scope": "local"}
    assert set(pruned(get_record("cifar10-rn8w28-dense")).values()) == {None}


def test_sections_filter_by_taxonomy_and_exclude_dense_models() -> None:
    models = [
        model("hydra", pruned_when="after", pruned_scored="learned", pruned_scope="local"),
        model("bird", pruned_when="during", pruned_scored="magnitude", pruned_scope="local"),
        model("ticket", pruned_when="before", pruned_scored="learned", pruned_scope="local"),
        model("dense", keep_ratio=None, sparsity=None),
    ]
    outcomes = [row for number, entry in enumerate(models) for row in rows(entry["id"], "pgd", "1" * (number + 1) + "0" * (7 - number))]
    spec = tables.get("pruned")
    sections = [(section.heading, section.where) for section in spec.sections]
    frame = literature(summary(pd.DataFrame(outcomes), pd.DataFrame(models)), published(), sections, spec.published, spec.attack)
    assert frame[["section", "model"]].to_numpy().tolist() == [["before", "ticket"], ["during", "bird"], ["after", "hydra"]]
    (table,) = tables.render(spec, frame)
    assert [str(cell) for cell in table.rows[0][:4]] == ["before", "ticket", "learned", "local"]
    by_score = literature(
        summary(pd.DataFrame(outcomes), pd.DataFrame(models)), published(), [("by score", {"pruned_scored": "learned"})], (), "pgd"
    )
    assert sorted(by_score["model"]) == ["hydra", "ticket"]
