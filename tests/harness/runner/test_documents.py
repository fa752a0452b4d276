"""Tests of documents: any damage is a one-line error that names the file; old versions are updated, newer ones are errors."""

import json
from pathlib import Path

import pytest

from harness.runner.documents import Claim, DiagnosisDocument, Failure, Manifest
from harness.runner.identity import unit_id
from model_zoo.errors import DamagedFileError

OLD = next((Path(__file__).parent / "old_files").glob("*.json"))


def content() -> dict[str, object]:
    return dict(json.loads(OLD.read_text()))


@pytest.mark.parametrize("kind", [Manifest, DiagnosisDocument, Claim, Failure])
@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"schema": true}', '{"schema": "1"}', "[" * 100_000, '{"schema": 99}'])
def test_invalid_documents_are_one_line_errors(kind: type[Manifest], text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=r"a\.json: expected") as raised:
        kind.read(path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"images": "40"},
        {"images": 40.5},
        {"labels": {}},
        {"identity": []},
        {"at_fault": "no"},
        {"flags": [{"kind": "x"}]},
        {"surprise": 1},
        {"unit": None},
        {"history": 3},
    ],
)
def test_a_field_of_the_wrong_type_is_named(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**content(), **change}))
    with pytest.raises(DamagedFileError, match=next(iter(change))):
        Manifest.read(path)


def test_an_older_version_is_updated_and_round_trips(tmp_path: Path) -> None:
    manifest = Manifest.read(OLD)
    assert manifest.broken_sha256 is None and manifest.content()["schema"] == 2
    path = tmp_path / "a.json"
    path.write_bytes(manifest.to_bytes())
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize(
    ("part", "words"), [("model", "model"), ("data", "data"), ("threat", "threat"), ("attack", "attack"), ("base_seed", "base_seed")]
)
def test_an_identity_with_missing_parts_is_an_error_even_if_its_hash_is_correct(part: str, words: str, tmp_path: Path) -> None:
    foreign = content()
    identity = {name: value for name, value in dict(foreign["identity"]).items() if name != part}
    unit = unit_id(identity)
    path = tmp_path / f"{unit}.json"
    path.write_text(json.dumps({**foreign, "unit": unit, "identity": identity, "labels": {**dict(foreign["labels"]), "unit": unit}}))
    with pytest.raises(DamagedFileError, match=words):
        Manifest.read(path)


@pytest.mark.parametrize("label", ["dataset", "norm", "radius", "attack", "unit"])
def test_labels_must_match_the_identity(label: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**content(), "labels": {**dict(content()["labels"]), label: "another"}}))
    with pytest.raises(DamagedFileError, match=f"label {label} is 'another'"):
        Manifest.read(path)


def test_an_identity_with_a_wrong_hash_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**content(), "identity": {**dict(content()["identity"]), "attack_batch": 7}}))
    with pytest.raises(DamagedFileError, match="hash"):
        Manifest.read(path)
