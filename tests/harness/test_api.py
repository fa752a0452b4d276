"""Tests of the public Python interface of the harness."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.api.evaluating import FlagWarning
from harness.evaluation.outcomes import COLUMNS
from model_zoo.errors import RefusedError, UnknownNameError, UsageError, UserError

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def test_a_loaded_model_maps_images_to_logits() -> None:
    model = harness.load_model(MODEL)
    assert isinstance(model, nn.Module) and not model.training
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(UnknownNameError, match=MODEL):
        harness.load_model(MODEL + "0")


def test_evaluate_returns_a_frame_and_stores_it(tmp_path: Path) -> None:
    frame = harness.evaluate(MODEL, attack=["pgd", "cw-linf"], n=5, store=tmp_path)
    assert isinstance(frame, pd.DataFrame) and len(frame) == 10 and set(COLUMNS) <= set(frame.columns)
    stored = harness.results(tmp_path)
    assert len(stored) == 10 and len(harness.results(tmp_path, attack="pgd")) == 5
    unstored = harness.evaluate(MODEL, attack=["pgd", "cw-linf"], n=5)
    columns = ["attack", *COLUMNS]
    assert unstored[columns].equals(frame[columns])


def test_a_module_can_be_attacked() -> None:
    frame = harness.evaluate(harness.load_model(MODEL), attack="cw-linf", n=5, radius="0/255")
    assert (frame["linf"] <= 1e-6).all() and (frame["robust"] == (frame["clean_prediction"] == frame["label"])).all()


def test_unsuitable_modules_and_stores_are_errors() -> None:
    with pytest.raises(RefusedError, match="training mode"):
        harness.evaluate(harness.load_model(MODEL).train(), n=2)
    with pytest.raises(UserError, match="store"):
        harness.evaluate(harness.load_model(MODEL), n=2, store="somewhere")


def test_missing_results_are_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    empty = harness.results(tmp_path, model=MODEL)
    full = harness.evaluate(MODEL, n=2, store=tmp_path)
    assert empty.empty and list(empty.columns) == list(full.columns) == list(harness.results(tmp_path).columns)


def test_a_loaded_model_keeps_its_id_unless_it_is_changed() -> None:
    by_id = harness.evaluate(MODEL, n=2)
    loaded = harness.load_model(MODEL)
    by_module = harness.evaluate(loaded, n=2)
    assert list(by_module.columns) == list(by_id.columns) and set(by_module["model"]) == set(by_id["model"]) == {MODEL}
    with torch.no_grad():
        next(loaded.parameters()).mul_(0.5)
    changed = harness.evaluate(loaded, n=2)
    hooked = harness.load_model(MODEL)
    hooked.register_forward_hook(lambda module, inputs, logits: -logits)
    inverted = harness.evaluate(hooked, n=2)
    assert MODEL not in {*changed["model"], *inverted["model"]} and set(changed["unit"]) != set(by_module["unit"])


def test_one_radius_cannot_apply_to_several_norms() -> None:
    with pytest.raises(UserError, match="state the norm"):
        harness.evaluate(MODEL, attack=["pgd", "cw-l2"], radius="8/255", n=2)
    with pytest.raises(UserError, match=r"8/255\?"):
        harness.evaluate(MODEL, radius="8", n=2)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        harness.nothing_like_it  # noqa: B018


def test_flags_are_a_column_and_a_warning() -> None:
    class Masked(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = harness.load_model(MODEL)(images.detach())
            return logits + 0.0 * images.sum((1, 2, 3))[:, None]

    with pytest.warns(FlagWarning, match=r"Masked-.* no gradient"):
        frame = harness.evaluate(Masked().eval(), n=5)
    assert set(frame["flags"]) == {"zero-gradient"}
    assert set(harness.evaluate(MODEL, n=5)["flags"]) == {""}


def test_a_radius_of_another_norm_is_an_error() -> None:
    with pytest.raises(UserError, match="cw-l2 is for L2 threat models, not for Linf 8/255"):
        harness.evaluate(harness.load_model("cifar10-rn8s29-dense"), attack="cw-l2", radius="Linf 8/255", n=2)


def test_transfer_excludes_the_attacked_model_as_source() -> None:
    frame = harness.evaluate(harness.load_model("cifar10-rn8s29-dense"), attack="transfer", n=4)
    assert len(frame) == 4 and not frame["broken_by"].astype(str).str.startswith("cifar10-rn8s29-dense:").any()


def test_a_class_is_not_accepted_as_a_module() -> None:
    with pytest.raises(UsageError, match="call the function"):
        harness.evaluate(nn.Identity, n=1)  # type: ignore[arg-type]


def test_models_and_footprints_are_frames() -> None:
    models = harness.models().set_index("id")
    assert {"family", "bytes", "present"} <= set(models.columns) and models.loc[MODEL, "weight_bits"] == 1
    cost = harness.footprint([MODEL, "cifar10-rn8s29-dense"]).set_index("id")
    assert list(cost.index) == [MODEL, "cifar10-rn8s29-dense"] and cost.loc[MODEL, "file_bytes"] == models.loc[MODEL, "bytes"]


def test_diagnose(tmp_path: Path) -> None:
    diagnosis = harness.diagnose(MODEL, n=10, store=tmp_path)
    assert diagnosis.verdict.level == "ok" and diagnosis.diagnostics.images == 10
    assert harness.diagnose(MODEL, n=10, store=tmp_path).diagnostics == diagnosis.diagnostics


def test_the_package_lists_its_names_and_version() -> None:
    assert set(harness.__all__) <= set(dir(harness)) and harness.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        harness.evalute  # noqa: B018


def test_report(tmp_path: Path) -> None:
    lines: list[str] = []
    store = Path(__file__).parents[2] / "results"
    reports = harness.report(store, tmp_path, suites=["epsilon"], formats=("csv",), on_message=lines.append)
    (section,) = reports.sections
    assert section.folder == "epsilon" and {path.suffix for path in section.report.paths} == {".csv"} and lines == []
    assert reports.index == tmp_path / "README.md" and "epsilon/summary.csv" in reports.index.read_text()
    with pytest.raises(UserError, match="no outcomes of suite paper"):
        harness.report(store, tmp_path, suites=["paper"])


def test_compare(tmp_path: Path) -> None:
    compared = harness.compare(MODEL, against=["cifar10-rn8s29-dense"], suite="smoke", n=6, store=tmp_path)
    first = compared.comparisons[0]
    assert first.target.model == MODEL and [opponent.result.model for opponent in first.opponents] == ["cifar10-rn8s29-dense"]
    assert not compared.has_failed and not compared.is_evasive
    assert compared.unmet() == [] and len(compared.unmet(fail_under=99, must_beat=["cifar10-rn8s29-dense"])) == 2


def test_a_loaded_model_is_evaluated_as_a_stored_unit_would_be(tmp_path: Path) -> None:
    from_module = harness.evaluate(harness.load_model(MODEL), n=8)
    from_id = harness.evaluate(MODEL, n=8)
    stored = harness.evaluate(MODEL, n=8, store=tmp_path)
    pd.testing.assert_frame_equal(from_module, from_id)
    pd.testing.assert_frame_equal(from_id[stored.columns], stored)


def test_an_engine_requires_a_registered_model() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10)).eval().requires_grad_(False)
    with pytest.raises(UsageError, match="engine sparse works only with registered models"):
        harness.evaluate(module, n=2, engine="sparse")
    assert len(harness.evaluate(module, n=2, attack="fast-autoattack")) == 2
