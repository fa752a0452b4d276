"""Tests of units under corruptions: every image is judged, and the outcome says what the model predicts on the corrupted image."""

import numpy as np
import pytest
import torch
from torch import nn

from harness import corruptions, datasets
from harness.corruptions import corrupt
from harness.evaluation.corrupted import evaluate_corrupted
from harness.evaluation.outcomes import COLUMNS
from model_zoo.errors import RefusedError
from model_zoo.loading import load_model

BLOCK = datasets.load("cifar10-sample", n=30)
MODEL = load_model("cifar10-rn8w32-pruned-binary-k05-p01")


class Brightness(nn.Module):
    """Predicts class 0 for images darker than half, else class 1."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5, *[torch.full_like(mean, -2.0)] * 8], 1)


def test_the_outcome_is_the_prediction_on_the_corrupted_image() -> None:
    fog = corruptions.get("fog")
    frame = evaluate_corrupted(MODEL, BLOCK, fog, 3, 0).frame
    assert tuple(frame.columns) == COLUMNS
    corrupted = corrupt(BLOCK, fog, 3)
    with torch.no_grad():
        clean, prediction = (MODEL(images.tensors()[0]).argmax(1).numpy() for images in (BLOCK, corrupted))
    assert (frame["clean_prediction"] == clean).all() and (frame["adversarial_prediction"] == prediction).all()
    assert (frame["robust"] == (prediction == BLOCK.labels)).all()
    assert (frame["broken_by"].isna() == frame["robust"]).all() and set(frame["broken_by"].dropna()) == {"fog"}
    difference = (corrupted.images.astype(float) - BLOCK.images) / 255
    assert frame["linf"].to_numpy() == pytest.approx(np.abs(difference).max(axis=(1, 2, 3)))
    assert frame["l2"].to_numpy() == pytest.approx(np.sqrt((difference**2).sum(axis=(1, 2, 3))), abs=6e-4)
    assert (frame["forwards"] == 1).all() and (frame["backwards"] == 0).all()


def test_an_image_that_is_wrong_without_a_corruption_may_be_right_with_it() -> None:
    images = np.full((30, 32, 32, 3), 115, np.uint8)
    block = datasets.ImageSet("plain", images, np.ones(30, np.int64), np.arange(30), BLOCK.classes)
    frame = evaluate_corrupted(Brightness().eval(), block, corruptions.get("brightness"), 5, 0).frame
    assert (frame["clean_prediction"] == 0).all() and frame["robust"].all()


def test_outcomes_do_not_depend_on_the_batch() -> None:
    snow = corruptions.get("snow")
    whole = evaluate_corrupted(MODEL, BLOCK, snow, 2, 0).frame
    part = evaluate_corrupted(MODEL, BLOCK.slice(10, 20), snow, 2, 0).frame
    assert part.equals(whole.iloc[10:20].reset_index(drop=True))


def test_the_gates_apply() -> None:
    model = load_model("cifar10-rn8w32-pruned-binary-k05-p01")
    with pytest.raises(RefusedError, match="training mode"):
        evaluate_corrupted(model.train(), BLOCK, corruptions.get("snow"), 1, 0)
