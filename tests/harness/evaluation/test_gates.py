"""Tests of the gates: invalid images, labels and models are errors before any attack runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.evaluation.gates import check_alphabet, check_clean_accuracy, check_images, check_model
from model_zoo.errors import RefusedError
from model_zoo.references import parse

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5)


class Linear(nn.Module):
    """A frozen linear model, with the fault that `fault` names."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.layer = nn.Linear(192, 10)
        self.fault = fault
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(images.flatten(1))
        match self.fault:
            case "nan":
                return logits / 0.0 - logits / 0.0
            case "probabilities":
                return logits.softmax(1)
            case "random":
                return logits + 0.1 * torch.randn_like(logits)
            case "shape":
                return logits[:, :9]
            case "tuple":
                return (logits,)  # type: ignore[return-value]
        return logits


def test_valid_images_and_models_pass() -> None:
    check_images(IMAGES, LABELS, 10)
    check_model(Linear(), IMAGES, 10)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (IMAGES * 2.0, r"\[0, 1\]"),
        (IMAGES - 0.5, r"\[0, 1\]"),
        (IMAGES.clone().index_fill_(0, torch.tensor([2]), float("nan")), "NaN"),
        (IMAGES.double(), "float32"),
        (IMAGES[:, :2], "float32"),
        (IMAGES[0], "float32"),
    ],
)
def test_invalid_images_are_errors(images: torch.Tensor, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_images(images, LABELS, 10)


@pytest.mark.parametrize("labels", [LABELS - 1, LABELS + 6, LABELS[:4]])
def test_invalid_labels_are_errors(labels: torch.Tensor) -> None:
    with pytest.raises(RefusedError, match="labels refused"):
        check_images(IMAGES, labels, 10)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("nan", "NaN"), ("probabilities", "probabilities"), ("random", "stochastic"), ("shape", "logits"), ("tuple", "logits")],
)
def test_invalid_models_are_errors(fault: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_model(Linear(fault), IMAGES, 10)


def test_a_submodule_in_training_mode_is_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval().requires_grad_(False)
    model[1].train()
    with pytest.raises(RefusedError, match="training mode"):
        check_model(model, IMAGES, 10)


def test_a_model_that_is_not_frozen_is_an_error() -> None:
    with pytest.raises(RefusedError, match="not frozen"):
        check_model(Linear().requires_grad_(True), IMAGES, 10)


def test_a_model_for_other_image_sizes_is_an_error() -> None:
    with pytest.raises(RefusedError, match="does not run"):
        check_model(Linear(), torch.rand(2, 3, 16, 16), 10)


class BatchDependent(nn.Module):
    """Logits minus the mean of the batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.flatten(1)[:, :10]
        return logits - logits.mean(0)


def test_logits_that_depend_on_the_batch_are_an_error() -> None:
    with pytest.raises(RefusedError, match="batch mates"):
        check_model(BatchDependent().eval(), IMAGES, 10)


class Stored(nn.Module):
    """A convolution whose `effective_weight` is `factor` times the weight that it computes with."""

    stride, padding = 1, 0

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(10, 3, 8, 8))
        self.factor = factor

    def effective_weight(self) -> torch.Tensor:
        return self.factor * self.get_buffer("weight")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, self.get_buffer("weight"))


def test_computing_with_other_weights_than_the_stored_ones_is_an_error() -> None:
    check_model(nn.Sequential(Stored(1.0), nn.Flatten()).eval(), IMAGES, 10)
    with pytest.raises(RefusedError, match="weights that are stored"):
        check_model(nn.Sequential(Stored(1.1), nn.Flatten()).eval(), IMAGES, 10)


def test_one_bit_weights_have_one_magnitude_and_zeros_only_if_pruned() -> None:
    signs = np.array([[-1.0, 1.0], [1.0, -1.0]], np.float32)
    check_alphabet([signs, 0.3 * signs], 1, pruned=False)
    check_alphabet([np.array([0.0, 1.0, -1.0])], 1, pruned=True)
    check_alphabet([np.array([0.0, 0.1, -0.7])], 32, pruned=False)
    with pytest.raises(RefusedError, match="layer 1 has 1 zeros"):
        check_alphabet([signs, np.array([0.0, 1.0])], 1, pruned=False)
    with pytest.raises(RefusedError, match="2 magnitudes"):
        check_alphabet([np.array([0.5, 1.0])], 1, pruned=False)


def test_clean_accuracy_far_from_the_record_is_an_error() -> None:
    check_clean_accuracy(0.42, 100, 250)
    check_clean_accuracy(0.42, 10, 40)
    check_clean_accuracy(0.42, 2, 8)
    for correct, n in ((25, 250), (1, 40), (190, 250)):
        with pytest.raises(RefusedError, match=f"{correct} of {n}"):
            check_clean_accuracy(0.42, correct, n)


def test_images_of_another_shape_are_an_error_with_the_expected_shape(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.Flatten(), nn.Linear(196, 10)).eval().requires_grad_(False)
    words = "does not run on images of 1 channel, 20 x 28 pixels; it takes 3 channels, 32 x 32 pixels"
    with pytest.raises(RefusedError, match=words):
        check_model(network, torch.rand(4, 1, 28, 20), 10)
    (tmp_path / "grey.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.Flatten(), nn.Linear(144, 10))\n"
    )
    with pytest.raises(RefusedError, match="does not run on images of 3 channels, 32 x 32 pixels; it takes 1 channel, 28 x 28 pixels"):
        check_model(parse(f"{tmp_path / 'grey.py'}:make").open()[1], torch.rand(4, 3, 32, 32), 10)
