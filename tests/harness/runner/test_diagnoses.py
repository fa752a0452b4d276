"""Diagnostics are measured once, kept, read back, and become a verdict beside the numbers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import datasets
from harness.cli.main import main
from harness.evaluation import diagnostics
from harness.evaluation.diagnostics import Diagnostics
from harness.reporting import tables
from harness.runner import diagnoses
from harness.runner.diagnoses import diagnosed, run_diagnosis, twin_of
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError
from model_zoo.threat import ThreatModel
from tests.harness.evaluation.test_verdict import HONEST

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
BLOCK = datasets.load("cifar10-sample").first(12)
THREAT = ThreatModel.parse("Linf 8/255")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(diagnostics, "SQUARE_QUERIES", 20)
        patched.setattr(diagnostics, "STEPS", 5)
        patched.setattr(diagnostics, "SWEEP_STEPS", 3)
        run_diagnosis(MODEL, BLOCK, THREAT, made)
    return made


def test_diagnostics_come_back_as_they_were() -> None:
    plain = json.loads(json.dumps(HONEST.to_dict()))
    assert Diagnostics.from_dict(plain) == HONEST
    assert plain["robust_ce"] == "1" * 110 + "0" * 140


def test_what_the_store_holds_is_not_measured_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    before = path.read_bytes()
    monkeypatch.setattr(diagnoses, "diagnose", None)
    again = run_diagnosis(MODEL, BLOCK, THREAT, store)
    assert again.found.images == 12 and again.model == MODEL
    assert path.read_bytes() == before
    content = json.loads(before)
    assert content["labels"]["twin"] == twin_of(MODEL) == "cifar10-rn8s29-dense"
    assert again.found.robust_transfer is not None and len(again.found.robust_transfer) == again.found.n


def test_measuring_twice_gives_the_same_bytes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "SQUARE_QUERIES", 20)
    monkeypatch.setattr(diagnostics, "STEPS", 5)
    monkeypatch.setattr(diagnostics, "SWEEP_STEPS", 3)
    run_diagnosis(MODEL, BLOCK, THREAT, Store(tmp_path))
    (one,), (two,) = ((folder / "diagnostics").glob("*.json") for folder in (store.root, tmp_path))
    assert one.name == two.name and one.read_bytes() == two.read_bytes()


def test_a_verdict_is_read_for_every_model(store: Store) -> None:
    found = diagnosed(store, {MODEL: MODEL, "cifar10-rn8s29-dense": "cifar10-rn8s29-dense", "gone": "gone"}).set_index("id")
    assert found.loc[MODEL, "verdict"] in ("ok", "suspicious", "masked")
    assert found["verdict"].isna().tolist() == [False, True, True]


def test_the_table_of_diagnostics_has_shares_of_all_images(store: Store, tmp_path: Path) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    whole = json.loads(path.read_text())["diagnostics"]
    frame = diagnosed(store, {MODEL: MODEL, "gone": "gone"})
    row = frame.set_index("id").loc[MODEL]
    assert (row["dataset"], row["norm"], row["radius"], row["margin_n"]) == ("cifar10-sample", "Linf", "8/255", 12)
    assert row["margin"] == whole["robust_margin"].count("1") / 12
    assert row["large"] == whole["sweep"]["64/255"].count("1") / 12
    rendered = tables.render(tables.get("diagnostics"), frame.rename(columns={"id": "model"}).dropna(subset=["dataset"]))
    assert [line[0] for line in rendered[0].rows] == [MODEL] and "n = 12" in rendered[0].caption
    assert rendered[0].rows[0][2].startswith(f"{100 * row['margin']:.1f}")


def test_damaged_diagnostics_are_named_or_passed_over(store: Store, tmp_path: Path) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    copy = tmp_path / "diagnostics" / path.name
    copy.parent.mkdir()
    for content in (b"", path.read_bytes()[:200], b"{}", path.read_bytes().replace(b'"schema": 1', b'"schema": 9')):
        copy.write_bytes(content)
        assert diagnosed(Store(tmp_path), {MODEL: MODEL})["verdict"].isna().all()
        with pytest.raises(DamagedFileError, match=path.stem):
            diagnoses._read(copy)


def test_the_command_prints_verdicts_and_reasons(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "diagnose", None)
    done = CliRunner().invoke(main, ["diagnose", MODEL, "--n", "12", "--store", str(store.root)])
    assert done.exit_code == 0, done.output
    assert "PGD-margin" in done.output and "verdict" in done.output
    rows = json.loads(CliRunner().invoke(main, ["diagnose", MODEL, "--n", "12", "--store", str(store.root), "--json"]).stdout)
    assert rows[0]["model"] == MODEL and len(rows[0]["diagnostics"]["robust_ce"]) == rows[0]["diagnostics"]["n"]
