"""Tests of the names of methods in tables."""

import csv
from pathlib import Path

import model_zoo
from harness.reporting.methods import NAMES, method_name
from model_zoo import registry


def test_every_method_of_records_and_published_numbers_has_a_name() -> None:
    folder = Path(model_zoo.__file__).parent / "published"
    keys = {registry.get_record(model).method for model in registry.model_ids()}
    for path in folder.glob("*.csv"):
        with path.open() as file:
            keys |= {row["method"] for row in csv.DictReader(file) if row.get("method")}
    assert keys
    assert keys <= NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


def test_an_unknown_method_keeps_its_key() -> None:
    assert (method_name("sehwag2020"), method_name("mine2026")) == ("HYDRA", "mine2026")
