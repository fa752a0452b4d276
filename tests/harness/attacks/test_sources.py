"""Tests of transfer attacks: examples made on one network are applied to another."""

import torch

from harness.attacks.native.losses import margin
from harness.attacks.native.sources import COUNT, SOURCES, sources, transfer_examples
from harness.evaluation.probes import ascend
from harness.evaluation.referee import predict
from harness.selftest.toys import THREAT, images, sign, toy
from model_zoo import registry

X, Y = (part[:40] for part in images())


def test_transfer_breaks_a_network_without_gradients() -> None:
    masked, epsilon = toy("sign", sign(0.0)), THREAT.epsilon
    assert ascend(masked, X, Y, epsilon, margin, 20, 0).robust.sum() > 35
    examples = transfer_examples(toy("sign"), X, Y, epsilon, margin, 0)
    assert (examples - X).abs().amax() <= epsilon + 1e-6 and examples.min() >= 0 and examples.max() <= 1
    assert (predict(masked, examples) == Y).sum() < 10
    assert torch.equal(examples, transfer_examples(toy("sign"), X, Y, epsilon, margin, 0))


def test_sources_are_shipped_models_other_than_the_attacked_one() -> None:
    for family, names in SOURCES.items():
        assert all(registry.absence(name) is None and registry.get_record(name).data.train == family for name in names)
        for name in names:
            chosen = sources(family, registry.get_record(name).weights_sha256)
            assert len(chosen) == COUNT and name not in chosen
    assert sources("tiny-imagenet") == ()
