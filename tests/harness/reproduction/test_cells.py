"""Tests of table cells: models are trained, attacked and identified by recipe and data; trainings are units of work."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import torch

from harness.reproduction.cells import CellStore
from harness.reproduction.scale import read_scale
from harness.reproduction.settings import Settings
from harness.runner.execute import execute, run_until_done
from harness.runner.executors import Resources
from harness.runner.identity import unit_id
from harness.runner.merge import merge
from harness.runner.packing import pack
from harness.runner.store import Store
from harness.runner.train import marks
from harness.runner.trainings import TrainingDocument
from harness.runner.verify import verify
from harness.runner.work import run_unit
from model_zoo.errors import DamagedFileError
from model_zoo.packing.frozen import dense_weights
from model_zoo.references import RecordFile

TINY = Path(__file__).with_name("tiny.toml")


def ours_settings(**fields: object) -> Settings:
    return Settings.model_validate(
        {
            "method": "ours",
            "architecture": "rn34",
            "weights": "binary",
            "dataset": "cifar10",
            "radius": "8/255",
            "strategy": "adaptive",
            "keep_ratio": 0.5,
            "p": 1.0,
            "last_bn": True,
            "score_scale": 0.01,
            **fields,
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CellStore:
    cells = CellStore(Store(tmp_path_factory.mktemp("cells")), read_scale(TINY))
    units, obstacles = cells.missing_trainings([ours_settings(), ours_settings()])
    assert len(units) == 1
    assert not obstacles
    assert run_unit(units[0], cells.store).kind == "finished"
    assert run_unit(units[0], cells.store).kind == "stored"
    cells.refresh()
    return cells


def test_a_training_is_stored_with_its_model(trained: CellStore) -> None:
    document = trained.training(ours_settings())
    assert document is not None
    assert trained.store.trainings.record_path(document).is_file()
    assert document.curve.count("\n") == 3
    assert not list(trained.store.root.rglob("*.state.pt"))
    assert not trained.missing_trainings([ours_settings()])[0]


def test_the_model_is_attacked_and_its_outcomes_are_returned(trained: CellStore) -> None:
    report = execute(trained.attacks([ours_settings()]), trained.store)
    assert not report.failed
    frame, planned, marks = trained.outcomes(ours_settings())
    assert frame is not None
    assert (len(frame), planned, marks) == (20, 20, ())


def test_clean_training_is_judged_at_the_protocols_radius(tmp_path: Path) -> None:
    cells, settings = CellStore(Store(tmp_path), read_scale(TINY)), ours_settings(radius="0")
    units, _ = cells.missing_trainings([settings])
    assert run_unit(units[0], cells.store).kind == "finished"
    cells.refresh()
    document = cells.training(settings)
    assert document is not None
    assert document.model().threat.radius == "0/255"
    assert "nan" not in document.curve
    assert [str(unit.threat) for unit in cells.units(settings)] == ["Linf 8/255"]


def test_outcomes_are_readable_without_a_checkpoint(trained: CellStore, tmp_path: Path) -> None:
    execute(trained.attacks([ours_settings()]), trained.store)
    copy = Store(tmp_path / "copy")
    merged = merge(copy, trained.store)
    assert (merged.trainings, len(merged.copied), merged.damaged) == (1, 1, [])
    assert merge(copy, trained.store).trainings == 0
    assert verify(copy).trainings == 1
    packed = pack(copy)
    assert (packed.trainings, packed.units) == (1, 1)
    shutil.rmtree(copy.trainings.folder)
    copy = Store(copy.root)
    assert verify(copy).trainings == 1
    assert not verify(copy).problems
    frame, planned, _ = CellStore(copy, trained.scale).outcomes(ours_settings())
    assert frame is not None
    assert planned == len(frame) == 20


def test_a_changed_checkpoint_is_reported(trained: CellStore, tmp_path: Path) -> None:
    copy = Store(tmp_path / "copy")
    merge(copy, trained.store)
    document = trained.training(ours_settings())
    assert document is not None
    checkpoint = copy.trainings.record_path(document).with_suffix(".safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    (problem,) = verify(copy).problems
    assert checkpoint.name in problem


def test_cells_are_matched_by_seed_but_not_by_name_or_engine(trained: CellStore) -> None:
    assert trained.training(ours_settings(seed=1)) is None
    document = trained.training(ours_settings())
    assert document is not None
    other = Store(trained.store.root / "other")
    identity, record = {**document.identity, "engine": "other"}, {**document.record, "id": "renamed"}
    changes = {"training": unit_id(identity), "identity": identity, "recipe": "renamed", "record": record}
    other.trainings.write(document.model_copy(update=changes))
    assert CellStore(other, trained.scale).training(ours_settings()) is not None


def test_layers_and_classes_without_weights_are_marked(trained: CellStore) -> None:
    document = trained.training(ours_settings())
    assert document is not None
    model = RecordFile(str(trained.store.trainings.record_path(document))).load()
    assert marks(model) == ()
    layers = dense_weights(model)
    with torch.no_grad():
        layers[-1][3] = 0
        assert marks(model) == ("empty class",)
        layers[2].zero_()
        assert marks(model) == ("empty layer", "empty class")


def test_settings_that_cannot_be_trained_are_obstacles(trained: CellStore) -> None:
    units, obstacles = trained.missing_trainings([ours_settings(architecture="rn50"), ours_settings(keep_ratio=0.2)])
    assert len(units) == 1
    assert [obstacle.settings.architecture for obstacle in obstacles] == ["rn50"]
    assert "rn50" in obstacles[0].reason


def test_a_failed_training_does_not_stop_the_others(trained: CellStore, tmp_path: Path) -> None:
    store = Store(tmp_path)
    (diverging, sound), _ = trained.missing_trainings([ours_settings(seed=3), ours_settings(seed=4)])
    work_folder = trained.store.trainings.work_folder(diverging.id)
    assert not work_folder.exists()
    state = store.trainings.work_folder(diverging.id) / f"{diverging.recipe.id}.state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"not a state")
    events = []
    results = list(run_until_done([diverging, sound], store, "in-process", Resources(), events.append))
    assert [result.kind for result in results] == ["failed", "finished"]
    assert "Weights only load failed" in str(results[0].message)
    assert {event.kind for event in events} == {"progress"}
    assert list(store.failures()) == [diverging.id]


def test_a_killed_training_continues_to_the_same_weights(trained: CellStore, tmp_path: Path) -> None:
    store = Store(tmp_path)
    document = trained.training(ours_settings())
    (unit,), _ = CellStore(store, trained.scale).missing_trainings([ours_settings()])
    process = multiprocessing.get_context("spawn").Process(target=run_unit, args=(unit, store))
    process.start()
    state = store.trainings.work_folder(unit.id) / f"{unit.recipe.id}.state.pt"
    deadline = time.monotonic() + 60
    while not state.is_file() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    if store.trainings.holds(unit.id):
        pytest.skip("the training ended before it could be killed")
    assert state.is_file()
    assert run_unit(unit, store).kind == "finished"
    assert document is not None
    assert store.trainings.read(unit.id).record["weights_sha256"] == document.record["weights_sha256"]


def test_damaged_documents_are_reported(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = tmp_path / "trainings"
    folder.mkdir()
    (folder / "00.json").write_text(json.dumps({"schema": 1, "training": "11"}))
    (item,) = store.trainings.read_all()
    assert isinstance(item, DamagedFileError)
    assert not store.trainings.holds("00")
    (tmp_path / "trainings.json.zst").write_bytes(b"nothing")
    (item,) = store.trainings.read_all()
    assert isinstance(item, DamagedFileError)
    with pytest.raises(DamagedFileError):
        TrainingDocument(training="1", identity={}, recipe="r", record={}, curve="", seconds=1.0).model()


def test_global_state_is_unchanged(trained: CellStore) -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    (unit,), _ = trained.missing_trainings([ours_settings(seed=5)])
    run_unit(unit, trained.store)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
