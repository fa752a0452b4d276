"""Fixtures for the reporting tests: a few outcomes whose numbers can be verified by hand."""

import pandas as pd
import pytest


def rows(model: str, attack: str, robust: str, radius: str = "8/255", clean_wrong: int = 1) -> list[dict[str, object]]:
    """Return one row per character of `robust` ("1" is robust); the last `clean_wrong` images are misclassified without an attack."""
    n = len(robust)
    return [
        {
            "unit": f"{model}-{attack}",
            "protocol": 1,
            "model": model,
            "family": "dense",
            "dataset": "cifar10-sample",
            "norm": "Linf",
            "radius": radius,
            "attack": attack,
            "seed": 0,
            "image": image,
            "label": image % 10,
            "clean_prediction": image % 10 if image < n - clean_wrong else (image + 1) % 10,
            "robust": mark == "1",
            "robust_to_seen": mark == "1",
            "broken_by": None if mark == "1" else ("clean" if image >= n - clean_wrong else attack),
        }
        for image, mark in enumerate(robust)
    ]


@pytest.fixture
def outcomes() -> pd.DataFrame:
    return pd.DataFrame(
        rows("small_one", "pgd", "11110000")
        + rows("small_one", "cw-linf", "01110000")
        + rows("large", "pgd", "11111100")
        + rows("large", "cw-linf", "11111010")
    )


@pytest.fixture
def models() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"id": "small_one", "family": "pruned-binary", "weight_bits": 1, "keep_ratio": 0.1, "sparsity": 0.9, "bytes": 2048},
            {"id": "large", "family": "dense", "weight_bits": 32, "keep_ratio": None, "sparsity": None, "bytes": 102400},
        ]
    )


@pytest.fixture
def planned() -> pd.DataFrame:
    cells = [("small_one", "pgd", 8), ("small_one", "cw-linf", 8), ("large", "pgd", 8), ("large", "cw-linf", 16)]
    shared = {"dataset": "cifar10-sample", "norm": "Linf", "radius": "8/255"}
    return pd.DataFrame([{**shared, "model": model, "attack": attack, "images": images} for model, attack, images in cells])
