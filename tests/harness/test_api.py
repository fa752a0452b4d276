"""The harness from Python."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.evaluation.outcomes import COLUMNS
from model_zoo.errors import RefusedError, UnknownNameError, UserError

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def test_a_loaded_model_takes_images_to_logits() -> None:
    model = harness.load_model(MODEL)
    assert isinstance(model, nn.Module) and not model.training
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(UnknownNameError, match=MODEL):
        harness.load_model(MODEL + "0")


def test_evaluate_gives_a_frame_and_a_store_keeps_it(tmp_path: Path) -> None:
    frame = harness.evaluate(MODEL, attack=["pgd", "cw-linf"], n=5, store=tmp_path)
    assert isinstance(frame, pd.DataFrame) and len(frame) == 10 and set(COLUMNS) <= set(frame.columns)
    kept = harness.results(tmp_path)
    assert len(kept) == 10 and len(harness.results(tmp_path, attack="pgd")) == 5
    without = harness.evaluate(MODEL, attack=["pgd", "cw-linf"], n=5)
    columns = ["attack", *COLUMNS]
    assert without[columns].equals(frame[columns])


def test_a_module_of_ones_own_is_attacked_too() -> None:
    frame = harness.evaluate(harness.load_model(MODEL), attack="cw-linf", n=5, radius="0/255")
    assert (frame["linf"] <= 1e-6).all() and (frame["robust"] == (frame["clean_prediction"] == frame["label"])).all()


def test_a_module_that_is_not_ready_is_refused() -> None:
    with pytest.raises(RefusedError, match="training mode"):
        harness.evaluate(harness.load_model(MODEL).train(), n=2)
    with pytest.raises(UserError, match="store"):
        harness.evaluate(harness.load_model(MODEL), n=2, store="somewhere")


def test_no_results_are_an_empty_frame(tmp_path: Path) -> None:
    assert harness.results(tmp_path).empty


def test_l2_is_not_an_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        harness.nothing_like_it  # noqa: B018
