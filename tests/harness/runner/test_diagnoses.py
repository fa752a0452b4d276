"""Tests of diagnoses: they are measured once, stored, read back, and shown as a verdict with the numbers."""

import json
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from harness import datasets
from harness.attacks.native.sources import sources
from harness.cli.main import main
from harness.evaluation import subject
from harness.evaluation.diagnostics import Diagnostics, Effort, diagnose
from harness.reporting import tables
from harness.reporting.frames import diagnostics as diagnostics_rows
from harness.reporting.frames import summary
from harness.runner import diagnoses, work
from harness.runner.diagnoses import diagnosed, run_diagnosis
from harness.runner.store import Store
from model_zoo import registry
from model_zoo.errors import DamagedFileError, RefusedError
from model_zoo.threat import ThreatModel
from tests.harness.evaluation.test_verdict import HONEST

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"
BLOCK = datasets.load("cifar10-sample").first(12)
THREAT = ThreatModel.parse("Linf 8/255")
QUICK = partial(diagnose, effort=Effort(steps=5, sweep_steps=3, square_queries=20, decision_queries=20))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    filled = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(diagnoses, "diagnose", QUICK)
        run_diagnosis(MODEL, BLOCK, THREAT, filled)
    return filled


def test_diagnostics_round_trip() -> None:
    plain = json.loads(json.dumps(HONEST.to_dict()))
    assert Diagnostics.from_dict(plain) == HONEST


def test_stored_diagnoses_are_not_measured_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    before = path.read_bytes()
    monkeypatch.setattr(diagnoses, "diagnose", None)
    repeated = run_diagnosis(MODEL, BLOCK, THREAT, store)
    assert repeated.diagnostics.images == 12 and repeated.model == MODEL
    assert path.read_bytes() == before
    assert set(json.loads(before)["identity"]["sources"]) == set(repeated.diagnostics.sources) == set(sources("cifar10", None))
    assert repeated.diagnostics.robust["transfer"].count("-") == 12 - repeated.diagnostics.n


def test_measuring_is_reproducible(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "diagnose", QUICK)
    run_diagnosis(MODEL, BLOCK, THREAT, Store(tmp_path))
    (first,), (second,) = ((folder / "diagnostics").glob("*.json") for folder in (store.root, tmp_path))
    assert first.name == second.name and first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("check", "words"), [("check_alphabet", "one-bit weights"), ("check_clean_accuracy", "but its record says"), ("check_model", "mode")]
)
def test_models_rejected_by_a_run_are_not_diagnosed(check: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RefusedError(f"model refused: {words}")

    work.open_checked.cache_clear()
    for module in (work, subject):
        monkeypatch.setattr(module, check, refuse, raising=False)
    monkeypatch.setattr(diagnoses, "diagnose", QUICK)
    with pytest.raises(RefusedError, match=words):
        run_diagnosis(MODEL, BLOCK.first(4), THREAT, Store(tmp_path))
    assert not (tmp_path / "diagnostics").exists()


def test_verdicts_are_read_for_all_models(store: Store) -> None:
    verdicts = diagnosed(store, {MODEL: MODEL, "cifar10-rn8s29-dense": "cifar10-rn8s29-dense", "gone": "gone"})
    assert verdicts["id"].tolist() == [MODEL]
    assert verdicts.loc[0, "verdict"] in ("ok", "suspicious", "masked") and verdicts.loc[0, "verdict_images"] == 12


@pytest.mark.parametrize("change", [{"backward": "ste"}, {"stochastic": True}, {"affine": True}])
def test_a_diagnosis_applies_only_to_the_same_record_and_weights(store: Store, change: dict[str, object]) -> None:
    record = registry.get_record(MODEL)
    stored = diagnoses.diagnoses(store)
    assert [diagnosis.model for diagnosis in diagnoses.of_model(stored, record)] == [MODEL]
    changed = record.model_copy(update=change)
    assert changed != record and diagnoses.of_model(stored, changed) == []


def test_a_verdict_applies_only_to_its_radius_and_data_set(store: Store) -> None:
    verdicts = diagnosed(store, {MODEL: MODEL})
    outcomes = pd.concat([_outcomes("8/255", "cifar10-sample"), _outcomes("4/255", "cifar10-sample"), _outcomes("8/255", "cifar10-test")])
    frame = summary(outcomes, pd.DataFrame({"id": [MODEL]}), verdicts=verdicts).set_index(["dataset", "radius"])
    assert frame["verdict"].notna().to_dict() == {
        ("cifar10-sample", "4/255"): False,
        ("cifar10-sample", "8/255"): True,
        ("cifar10-test", "8/255"): False,
    }


def _outcomes(radius: str, dataset: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "protocol": 1,
            "dataset": dataset,
            "norm": "Linf",
            "radius": radius,
            "model": MODEL,
            "attack": "pgd",
            "image": [0, 1],
            "label": [3, 8],
            "clean_prediction": [3, 8],
            "robust": [True, False],
            "robust_to_seen": [True, False],
        }
    )


def test_the_diagnostics_table_contains_shares_of_all_images(store: Store, tmp_path: Path) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    content = json.loads(path.read_text())["diagnostics"]
    frame = diagnosed(store, {MODEL: MODEL, "gone": "gone"})
    row = frame.set_index("id").loc[MODEL]
    assert (row["dataset"], row["norm"], row["radius"], row["margin_n"]) == ("cifar10-sample", "Linf", "8/255", 12)
    assert row["margin"] == content["robust"]["margin"].count("1") / 12
    assert row["large"] == content["sweep"]["64/255"].count("1") / 12
    rendered = tables.render(tables.get("diagnostics"), diagnostics_rows(frame))
    assert [str(line[0]) for line in rendered[0].rows] == [MODEL] and "n = 12" in rendered[0].caption
    assert str(rendered[0].rows[0][2]).startswith(f"{100 * row['margin']:.1f}")


def test_damaged_and_outdated_diagnoses_are_ignored_with_an_error(store: Store, tmp_path: Path) -> None:
    (path,) = (store.root / "diagnostics").glob("*.json")
    copy = tmp_path / "diagnostics" / path.name
    copy.parent.mkdir()
    for content in (b"", path.read_bytes()[:200], b"{}", path.read_bytes().replace(b'"schema": 2', b'"schema": 9')):
        copy.write_bytes(content)
        assert diagnosed(Store(tmp_path), {MODEL: MODEL}).empty
        ((_, error),) = Store(tmp_path).diagnoses()
        assert isinstance(error, DamagedFileError) and path.stem in str(error)
    outdated = path.read_bytes().replace(b'"diagnostics": 2', b'"diagnostics": 1')
    assert outdated != path.read_bytes()
    copy.write_bytes(outdated)
    assert diagnosed(Store(tmp_path), {MODEL: MODEL}).empty, "verdicts from older probes do not count"


def test_the_command_prints_measurements_and_verdicts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "diagnose", None)
    result = CliRunner().invoke(main, ["diagnose", MODEL, "--n", "12", "--store", str(store.root)])
    assert result.exit_code == 0, result.output
    assert "PGD-margin" in result.output and "verdict" in result.output
    rows = json.loads(CliRunner().invoke(main, ["diagnose", MODEL, "--n", "12", "--store", str(store.root), "--json"]).stdout)
    assert rows[0]["model"] == MODEL and len(rows[0]["diagnostics"]["robust"]["ce"]) == rows[0]["n"] == 12
