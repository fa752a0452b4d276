"""Tests of one-dimensional k-means with a fixed centre at zero."""

import pytest
import torch

from model_zoo.pruning.clustering import assign, codes, fit_centres, means


def test_clusters_are_recovered_and_zero_is_a_centre() -> None:
    noise = 0.001 * torch.randn(300, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([-1.0, 0.5, 2.0]).repeat(100) + noise
    centres = fit_centres(values, 4)
    assert centres.tolist() == pytest.approx([-1.0, 0.0, 0.5, 2.0], abs=0.001) and 0.0 in centres.tolist()


@pytest.mark.parametrize("number", [2, 4, 16, 256])
def test_the_number_of_centres_is_bounded_and_centres_are_means(number: int) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    centres = fit_centres(values, number)
    assert len(centres) <= number and 0.0 in centres.tolist() and torch.equal(centres, centres.sort().values)
    # Lloyd's iterations stop early, so the error is only close to that of the fixed point.
    members = assign(values, centres)
    better = means(values, members, centres)
    error = float((values - centres[members]).square().sum())
    assert float((values - better[members]).square().sum()) > 0.95 * error or number == 2
    assert error < float(values.square().sum())


def test_few_values_are_centres_themselves() -> None:
    assert fit_centres(torch.tensor([3.0, -1.0]), 16).tolist() == [-1.0, 0.0, 3.0]
    assert fit_centres(torch.zeros(0), 16).tolist() == [0.0]
    assert fit_centres(torch.tensor([3.0]), 1).tolist() == [0.0]


def test_code_zero_is_the_centre_zero() -> None:
    centres = torch.tensor([-2.0, -1.0, 0.0, 1.0])
    values = torch.tensor([-3.0, -1.1, 0.1, -0.1, 0.9])
    assert codes(values, centres).tolist() == [1, 2, 0, 0, 3]
