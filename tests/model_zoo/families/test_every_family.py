"""Tests of every family: killed runs resume to the same weights, packed models compute the same, records contain the taxonomy."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model_zoo.families import families
from model_zoo.packing.factors import stored_factors
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.packing.packed import load_packed, pack
from model_zoo.schema import Record, Taxonomy
from model_zoo.training.outcome import allocation_of, keep
from tests.model_zoo.families.runs import OPTIONS, tiny, train_tiny
from tests.model_zoo.training.test_state import train_with_interruptions
from tests.model_zoo.training.tiny import SAMPLE

PROBE = torch.tensor(SAMPLE.images[:50]).permute(0, 3, 1, 2).float() / 255.0
# Per family: when it is pruned, by which score, and whether scores compete globally or per layer.
TAXONOMY = {
    "atmc": ("after", "magnitude", "global"),
    "bcs": ("during", "magnitude", "global"),
    "biprop": ("before", "learned", "local"),
    "flying-bird": ("during", "magnitude", "local"),
    "flying-bird-plus": ("during", "magnitude", "local"),
    "harp": ("after", "learned", "global"),
    "hydra": ("after", "learned", "local"),
    "lwm": ("after", "magnitude", "local"),
    "pruned-binary": ("before", "learned", "local"),
    "robust-bird": ("before", "magnitude", "global"),
    "rst": ("before", "learned", "local"),
}

# Options that change what a method computes or stores.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("atmc", {"bits": 1, "allocation": "adaptive", "allocation_power": 0.1}),
    ("atmc", {"bits": 32}),
    ("bcs", {"weights": "binary"}),
    ("hydra", {"allocation": "global", "weights": "binary"}),
]


def test_every_family_is_tested() -> None:
    assert set(OPTIONS) == set(families())
    assert set(TAXONOMY) == {name for name, family in families().items() if family.taxonomy}
    assert {name for name, family in families().items() if "keep_ratio" in family.defaults} == set(TAXONOMY)


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in sorted(families())), *VARIANTS])
def test_a_killed_run_resumes_to_the_same_weights(
    name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, affine = tiny(name, **options), families()[name].affine
    expected = weights_sha256(freeze(train_tiny(recipe).model, recipe.architecture, affine))
    # Kill in the middle of an epoch, at the last step of an epoch, and right after the start of a stage.
    resumed = train_with_interruptions(recipe, tmp_path / "tiny.state.pt", [4, 10, 21], monkeypatch)
    assert weights_sha256(freeze(resumed.model, recipe.architecture, affine)) == expected


@pytest.mark.parametrize("name", sorted(families()))
def test_packed_models_compute_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    recipe, family = tiny(name), families()[name]
    result = train_tiny(recipe)
    record = keep(result, recipe, tmp_path)
    frozen = freeze(result.model, recipe.architecture, family.affine)
    loaded = load_packed(tmp_path / record.checkpoint.file).model
    with torch.no_grad():
        assert torch.equal(loaded(PROBE), frozen(PROBE))
        assert torch.allclose(frozen(PROBE), result.model(PROBE), atol=1e-4)
    assert weights_sha256(loaded) == weights_sha256(frozen) == record.weights_sha256
    # Packing the loaded model gives the same bytes, so nothing was lost.
    assert pack(loaded, recipe.architecture, family.affine, {"id": "tiny"}) == pack(
        frozen, recipe.architecture, family.affine, {"id": "tiny"}
    )
    assert bool(stored_factors(loaded)) == (name == "atmc")


@pytest.mark.parametrize("name", ["hydra", "atmc"])
@pytest.mark.parametrize(
    ("allocation", "power", "scope"), [("global", None, "global"), ("adaptive", 0.1, "local"), ("adaptive", 1.0, "local")]
)
def test_records_contain_the_allocation(name: str, allocation: str, power: float | None, scope: str) -> None:
    recipe = tiny(name, allocation=allocation, **({} if power is None else {"allocation_power": power}))
    recorded_power, taxonomy = allocation_of(recipe)
    assert taxonomy is not None and (taxonomy.scope, recorded_power) == (scope, power)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bcs", {"weights": "real"}),
        ("flying-bird-plus", {"weights": "real"}),
        ("hydra", {"allocation": "adaptive", "allocation_power": 1.0}),
        ("atmc", {"allocation": "global"}),
    ],
)
def test_default_options_are_omitted_from_the_recipe(name: str, options: dict[str, Any]) -> None:
    assert tiny(name, **options).to_dict() == tiny(name).to_dict()
    assert not set(options) & set(tiny(name).options)


@pytest.mark.parametrize("name", sorted(TAXONOMY))
def test_records_contain_the_taxonomy(name: str) -> None:
    family = families()[name]
    taxonomy = Taxonomy(**family.taxonomy)
    assert (taxonomy.when, taxonomy.scored, taxonomy.scope, taxonomy.structured) == (*TAXONOMY[name], False)
    assert family.kind in Record.model_fields["family"].annotation.__args__  # type: ignore[union-attr]
