"""Tests of every shipped record: it can be read, and its fields agree with its checkpoint file."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from model_zoo.catalogue import catalogue
from model_zoo.errors import DamagedFileError, UnknownNameError
from model_zoo.families import get_family
from model_zoo.footprint import measure
from model_zoo.loading import load_model
from model_zoo.packing.factors import stored_factors, value_counts
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.packed import load_packed
from model_zoo.packing.weights import magnitudes, value_bits
from model_zoo.registry import checkpoint_path, get_record, model_ids, package_folder, read_record, record_path, write_record
from model_zoo.training.outcome import stored_as
from model_zoo.training.recipe import Recipe

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


@pytest.mark.parametrize("model", model_ids())
def test_a_record_agrees_with_its_checkpoint(model: str) -> None:
    record = get_record(model)
    loaded = load_model(model)
    layers = effective_weights(loaded)
    weights = np.concatenate([array.reshape(-1) for array in layers])
    values = set(np.unique(weights).tolist())
    counts = value_counts(stored_factors(loaded))[0] or [(array.size, int(np.count_nonzero(array)), 0) for array in layers]
    if record.keep_ratio is not None:
        # The ratio is relative to the weights of the dense network, factored or not; a regrown weight may still be zero.
        assert sum(kept for _, kept, _ in counts) / weights.size == pytest.approx(record.keep_ratio, rel=0.01)
        assert record.family in ("pruned-binary", "sparse", "sparse-binary") and record.pruning is not None
    if record.family == "pruned-binary":
        assert values == {-1.0, 0.0, 1.0}
    elif record.family == "dense-binary":
        assert values == {-1.0, 1.0} and record.sparsity is None
    elif record.family == "sparse-binary":
        assert record.weight_bits == 1 and magnitudes(layers) is not None
    elif record.family == "quantised":
        assert value_bits(layers)[0] == record.weight_bits == 8
    elif stored_factors(loaded):
        assert max(bits for _, _, bits in counts) == record.weight_bits < 32
    else:
        assert record.weight_bits == 32 and len(values) > 100
    assert record.checkpoint.bytes == checkpoint_path(model).stat().st_size <= 2**20
    assert record.training is not None


@pytest.mark.parametrize("model", model_ids())
def test_a_record_names_the_recipe_of_its_checkpoint(model: str) -> None:
    record = get_record(model)
    recipe = Recipe.load(package_folder("recipes") / f"{record.recipe}.toml")
    assert Recipe.from_dict(load_packed(checkpoint_path(model)).header["provenance"]["recipe"]) == recipe
    assert (recipe.seed, dict(recipe.architecture)) == (record.seed, record.architecture)
    assert (record.family, record.weight_bits) == stored_as(recipe)
    assert (record.pruning.model_dump() if record.pruning else {}) == get_family(recipe.family).taxonomy
    assert (package_folder("checkpoints") / f"{model}.csv").read_text().count("\n") == recipe.optimiser.epochs + 1


def test_all_models_share_data_and_epochs() -> None:
    records = [get_record(model) for model in model_ids()]
    assert len(records) >= 5
    assert len({record.data for record in records}) == len({record.data.train for record in records})
    # A run selected on held-out images is a longer training stopped early, so it is not compared.
    unselected = [record for record in records if record.training and record.selected_on == "last epoch"]
    longer = [record for record in unselected if re.search(r"-e\d+$", record.id)]
    assert len({record.training.epochs for record in unselected if record.training and record not in longer}) == 1
    # The id of a longer schedule contains its number of epochs.
    assert all(record.training and record.id.endswith(f"-e{record.training.epochs}") for record in longer)


def test_sizes_of_the_footprint_are_consistent() -> None:
    footprint = measure(load_model(MODEL), checkpoint_path(MODEL), drawn=True)
    assert footprint.dense_float32_bytes == 4 * footprint.weights
    assert footprint.seed_bytes is not None and footprint.entropy_bytes is not None and footprint.bitmap_bytes is not None
    assert footprint.entropy_bytes - footprint.seed_bytes == pytest.approx(footprint.kept_weights / 8, abs=1)
    assert footprint.entropy_bytes < footprint.bitmap_bytes < footprint.dense_float32_bytes
    assert footprint.entropy_bytes + footprint.batch_norm_bytes < footprint.file_bytes
    assert footprint.file_bytes < footprint.entropy_bytes + footprint.batch_norm_bytes + 2000
    assert footprint.nonzero_macs < footprint.dense_macs == 12_281_088


def test_the_catalogue_has_one_row_per_model_including_unknown_ones() -> None:
    frame = catalogue({MODEL: MODEL, "gone": "gone"})
    assert frame["id"].tolist() == [MODEL, "gone"]
    assert frame.loc[0, "sparsity"] == pytest.approx(0.95) and frame.loc[0, "bytes"] == get_record(MODEL).checkpoint.bytes


def test_misspelled_ids_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{MODEL}'"):
        get_record(MODEL.replace("p01", "p1"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('family = "pruned-binary"', 'family = "prunned"', "family"),
        ("keep_ratio = 0.05\n", "", "keep_ratio"),
        ("seed = 0", "sede = 0", "s"),
        ('radius = "8/255"', 'radius = "8 by 255"', "radius"),
        ("seed = 0", "seed = = 0", "TOML"),
        (f'id = "{MODEL}"', 'id = "another"', "another"),
        (f'file = "{MODEL}.safetensors"', 'file = "../../x.safetensors"', "file"),
        (f'file = "{MODEL}.safetensors"', 'file = "/etc/passwd"', "file"),
        ("keep_ratio = 0.05\n", 'keep_ratio = "0.05"\n', "keep_ratio"),
        ("classes = 10", 'classes = "10"', "architecture"),
    ],
)
def test_an_invalid_record_is_an_error_that_names_file_and_field(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = record_path(MODEL).read_text()
    assert old in text
    path = tmp_path / f"{MODEL}.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(DamagedFileError, match=words) as raised:
        read_record(path)
    assert raised.value.path == path


def test_a_record_of_other_weights_is_an_error(tmp_path: Path) -> None:
    record = tomllib.loads(record_path(MODEL).read_text())
    text = record_path(MODEL).read_text().replace(record["weights_sha256"], "0" * 64)
    (tmp_path / f"{MODEL}.toml").write_text(text)
    (tmp_path / record["checkpoint"]["file"]).write_bytes(checkpoint_path(MODEL).read_bytes())
    with pytest.raises(DamagedFileError, match="weights with sha256 0000"):
        load_model(str(tmp_path / f"{MODEL}.toml"))


@pytest.mark.parametrize("model", model_ids())
def test_a_written_record_is_read_back_unchanged(model: str, tmp_path: Path) -> None:
    record = get_record(model)
    changed = record.model_copy(update={"title": 'é "quoted" \\ 32×32\nand a second line'})
    for written in (record, changed):
        path = write_record(written, tmp_path)
        assert path == tmp_path / f"{model}.toml" and read_record(path) == written
