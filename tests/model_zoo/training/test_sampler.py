"""Tests of batches (complete, shuffled, cropped from padded images) and of random numbers for any number of processes."""

import torch

from model_zoo.training.sampler import Crop, Sampler, cut, cuts
from model_zoo.training.sharing import Draws, Share
from tests.model_zoo.training.tiny import SAMPLE

PIXELS = torch.from_numpy(SAMPLE.images.copy()).permute(0, 3, 1, 2)


def draws(rank: int = 0, world: int = 1, seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), Share(rank, world))


def sampler(**share: int) -> Sampler:
    return Sampler(PIXELS, torch.arange(len(PIXELS)), 250, Crop(), draws(**share))


def test_augmentation_crops_the_padded_image_or_its_mirror_image() -> None:
    image = torch.arange(1, 1 + 3 * 8 * 8).view(1, 3, 8, 8).repeat(64, 1, 1, 1).float()
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    augmented = cut(padded, *cuts(image, Crop(padding=2, offsets=5), draws()))
    crops = [padded[0, :, row : row + 8, column : column + 8] for row in range(5) for column in range(5)]
    crops += [crop.flip(2) for crop in crops]
    crop_numbers = {next(number for number, crop in enumerate(crops) if torch.equal(crop, picture)) for picture in augmented}
    assert len(crop_numbers) > 20


def test_batches_are_shuffled_complete_and_scaled() -> None:
    batches = list(sampler().epoch())
    assert [len(batch.images) for batch in batches] == [250, 250]
    assert len(torch.cat([batch.index for batch in batches]).unique()) == 500
    assert all(torch.equal(batch.index, batch.labels) for batch in batches)
    assert all(float(batch.images.min()) >= 0.0 and float(batch.images.max()) <= 1.0 for batch in batches)


def test_an_interrupted_epoch_continues() -> None:
    expected = [batch.images for batch in sampler().epoch()]
    first = sampler()
    assert torch.equal(next(first.epoch()).images, expected[0])
    second = sampler(seed=9)
    second.order, second.position = first.order, first.position
    second.draws.generator.set_state(first.draws.generator.get_state())
    (remaining,) = second.epoch()
    assert torch.equal(remaining.images, expected[1])


def test_processes_divide_each_batch() -> None:
    full, *halves = (next(sampler(**share).epoch()) for share in ({}, {"rank": 0, "world": 2}, {"rank": 1, "world": 2}))
    for rank, part in enumerate(halves):
        assert torch.equal(part.images, full.images[rank::2])
        assert torch.equal(part.index, full.index[rank::2])


def test_random_numbers_do_not_depend_on_the_number_of_processes() -> None:
    template = torch.empty(6, 3, 2, 2)
    for kind in ("uniform", "normal"):
        full = getattr(draws(), kind)(template)
        parts = [getattr(draws(rank, 3), kind)(template[rank::3]) for rank in range(3)]
        assert all(torch.equal(part, full[rank::3]) for rank, part in enumerate(parts))
