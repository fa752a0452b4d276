"""Tests that all published numbers are present with their sources, and that similar threat models stay separate."""

from pathlib import Path

import pandas as pd
import pytest

from model_zoo import publications
from model_zoo.errors import DamagedFileError
from model_zoo.publications import published
from model_zoo.threat import parse_radius

HEADER = ",".join(publications.Published.model_fields)
# Rows by file, data set and radius, counted in the sources; a lost row or a changed threat model changes these counts.
COUNTS = {
    ("adversarial-pruning-benchmark", "cifar10", "0.031"): 84,
    ("adversarial-pruning-benchmark", "svhn", "0.031"): 70,
    ("biprop", "cifar10", ""): 5,
    ("dense-adversarial-training", "cifar10", "8/255"): 30,
    ("dense-adversarial-training", "cifar100", "8/255"): 18,
    ("eed", "cifar10", ""): 18,
    ("flying-bird", "cifar10", "8/255"): 8,
    ("flying-bird", "cifar100", "8/255"): 8,
    ("hydra", "cifar10", "0.031"): 15,
    ("hydra", "svhn", "0.031"): 14,
    ("liu2022", "cifar10", "8/255"): 6,
    ("liu2022", "cifar100", "4/255"): 2,
    ("liu2022", "imagenet100", "2/255"): 1,
    ("robustbench-corruptions", "cifar10", ""): 4,
    ("robustbench-corruptions", "cifar100", ""): 4,
    ("robustbench-linf", "cifar10", "0.031"): 7,
    ("robustbench-linf", "cifar10", "8/255"): 87,
    ("robustbench-linf", "cifar100", "0.031"): 3,
    ("robustbench-linf", "cifar100", "8/255"): 35,
    ("rst", "cifar10", "8/255"): 12,
}
# Model zoo of the official repository, README at 3c5bd5d: network, data set, training, clean and robust accuracy in per cent.
LIU2022 = {
    ("ResNet-34", "cifar10", "pgd", 77.30, 45.06),
    ("ResNet-34", "cifar10", "fast", 81.63, 40.77),
    ("ResNet-34", "cifar100", "pgd", 60.16, 34.83),
    ("ResNet-34", "cifar100", "fast", 63.73, 34.45),
    ("ResNet-34", "imagenet100", "fast", 58.94, 33.04),
    ("ResNet-18", "cifar10", "pgd", 72.35, 39.65),
    ("ResNet-18", "cifar10", "fast", 66.12, 30.86),
    ("ResNet-50", "cifar10", "pgd", 76.66, 42.72),
    ("ResNet-50", "cifar10", "fast", 78.24, 37.93),
}


@pytest.fixture(scope="module")
def published_rows() -> pd.DataFrame:
    return published()


def test_every_row_of_the_sources_is_present(published_rows: pd.DataFrame) -> None:
    counts = published_rows.fillna({"radius": ""}).groupby(["file", "dataset", "radius"]).size()
    assert counts.to_dict() == COUNTS


def test_every_row_has_a_source(published_rows: pd.DataFrame) -> None:
    assert published_rows[["source", "location"]].notna().all(axis=None)
    # Code changes and needs a version; papers do not.
    assert set(published_rows.loc[published_rows["version"].isna(), "source"]) == {"EED (CVPR 2025)"}
    assert published_rows.loc[published_rows["robust"].notna(), "attack"].notna().all()


def test_the_papers_numbers_match_its_model_zoo(published_rows: pd.DataFrame) -> None:
    rows = published_rows[published_rows["file"] == "liu2022"]
    numbers = {
        (row["architecture"], row["dataset"], row["training"], round(100 * row["clean"], 2), round(100 * row["robust"], 2))
        for _, row in rows.iterrows()
    }
    assert numbers == LIU2022
    settings = rows[["keep_ratio", "allocation_power", "weight_init", "last_batch_norm", "weight_bits", "extra_data", "version"]]
    assert settings.drop_duplicates().to_numpy().tolist() == [[0.01, 0.1, "binary", "plain", 1.0, False, "3c5bd5d"]]
    # Whole test splits; the source does not say how many ImageNet-100 images were tested.
    assert rows["n"].value_counts().to_dict() == {10000: 8}


def test_similar_radii_are_distinguished(published_rows: pd.DataFrame) -> None:
    assert parse_radius("0.031") < parse_radius("8/255")
    cifar100 = published_rows[published_rows["dataset"] == "cifar100"]
    paper, others = cifar100[cifar100["file"] == "liu2022"], cifar100[cifar100["file"] != "liu2022"]
    assert set(paper["radius"]) == {"4/255"} and "4/255" not in set(others["radius"])


def test_extra_data_is_recorded_if_known(published_rows: pd.DataFrame) -> None:
    hydra = published_rows[(published_rows["file"] == "hydra") & (published_rows["dataset"] == "cifar10")]
    assert set(hydra["extra_data"]) == {True}
    leaderboard = published_rows[published_rows["file"] == "robustbench-linf"]
    assert leaderboard["extra_data"].map(bool).sum() == 35 and leaderboard["extra_data"].notna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "line 2, source"),
        ({"location": ""}, "line 2, location"),
        ({"radius": "eight"}, "line 2, radius: not a radius"),
        ({"robust": "45.06"}, "line 2, robust"),
        ({"n": "many"}, "line 2, n"),
    ],
)
def test_a_row_without_source_or_with_invalid_values_is_an_error(
    changes: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"key": "one", "family": "dense", "dataset": "cifar10", "source": "a paper", "location": "Table 1", **changes}
    line = ",".join(row.get(name, "") for name in HEADER.split(","))
    (tmp_path / "made-up.csv").write_text(f"{HEADER}\n{line}\n")
    monkeypatch.setattr(publications, "package_folder", lambda _: tmp_path)
    with pytest.raises(DamagedFileError, match=message):
        published()


def test_duplicate_keys_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"key": "one", "family": "dense", "dataset": "cifar10", "source": "a paper", "location": "Table 1"}
    line = ",".join(row.get(name, "") for name in HEADER.split(","))
    (tmp_path / "made-up.csv").write_text(f"{HEADER}\n{line}\n{line}\n")
    monkeypatch.setattr(publications, "package_folder", lambda _: tmp_path)
    with pytest.raises(DamagedFileError, match="line 3: one a second time"):
        published()
