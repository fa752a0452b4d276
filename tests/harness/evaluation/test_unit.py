"""Tests of units: corrections by the referee, selection of images, and restored global state."""

from fractions import Fraction

import pytest
import torch

from harness import attacks, datasets
from harness.attacks import AttackCall, AttackResult
from harness.evaluation.unit import evaluate_unit
from harness.selftest.toys import THREAT as TOY_THREAT
from harness.selftest.toys import Toy, toy
from model_zoo.errors import RefusedError
from model_zoo.loading import load_model
from model_zoo.threat import ThreatModel

MODEL = load_model("cifar10-rn8w32-pruned-binary-k05-p01")
BLOCK = datasets.load("cifar10-sample").first(12)
THREAT = ThreatModel("Linf", Fraction(8, 255))
SPEC = attacks.get("pgd")


def install_false_claims(monkeypatch: pytest.MonkeyPatch, change: float, claim: str | None) -> None:
    """Replace every attack by one that adds `change` to every pixel and claims `claim` for every image."""

    def run(spec: object, call: AttackCall, classes: int) -> AttackResult:
        call.model(call.images)
        return AttackResult(call.images + change, (claim,) * len(call.images))

    monkeypatch.setattr(attacks, "run", run)


def test_a_false_claim_on_a_robust_image_counts_as_a_boundary_flip(monkeypatch: pytest.MonkeyPatch) -> None:
    install_false_claims(monkeypatch, 0.0, "pgd")
    outcome = evaluate_unit(MODEL, BLOCK, THREAT, SPEC, 0)
    attacked = outcome.frame["clean_prediction"] == outcome.frame["label"]
    assert outcome.frame["robust"].tolist() == attacked.tolist()
    assert outcome.boundary_flips == int(attacked.sum()) and not outcome.at_fault


@pytest.mark.parametrize("change", [9 / 255, float("nan")])
def test_an_attack_outside_its_threat_model_is_at_fault(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    install_false_claims(monkeypatch, change, "pgd")
    outcome = evaluate_unit(MODEL, BLOCK, THREAT, SPEC, 0)
    assert outcome.at_fault and [kind for kind, _ in outcome.flags] == ["at-fault"]
    assert (outcome.frame["robust"] == (outcome.frame["clean_prediction"] == outcome.frame["label"])).all()


def test_a_minimum_distance_attack_may_exceed_the_radius() -> None:
    block = datasets.load("cifar10-sample").first(40)
    outcome = evaluate_unit(MODEL, block, ThreatModel("L2", Fraction(1, 100)), attacks.get("cw-l2"), 0)
    attacked = outcome.frame["clean_prediction"] == outcome.frame["label"]
    assert not outcome.at_fault
    assert outcome.frame["robust"].tolist() == attacked.tolist()
    # The outcome keeps the distance at which the image was broken.
    far = attacked & (outcome.frame["adversarial_prediction"] != outcome.frame["label"])
    assert far.any() and (outcome.frame.loc[far, "l2"] > 1 / 100).all()


def test_only_correctly_classified_images_are_attacked() -> None:
    outcome = evaluate_unit(MODEL, BLOCK, THREAT, SPEC, 0)
    wrong = outcome.frame["clean_prediction"] != outcome.frame["label"]
    assert wrong.any() and (outcome.frame.loc[wrong, ["linf", "l2", "forwards", "backwards"]] == 0).all(axis=None)
    assert (outcome.frame.loc[~wrong, "backwards"] == 50).all()


def test_threads_and_random_state_are_restored() -> None:
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    evaluate_unit(MODEL, BLOCK.first(3), THREAT, SPEC, 0)
    assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), state)
    torch.set_num_threads(1)


def test_a_model_in_training_mode_is_rejected_before_the_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "run", lambda *arguments, **named: pytest.fail("attacked"))
    with pytest.raises(RefusedError, match="training mode"):
        evaluate_unit(load_model("cifar10-rn8w32-pruned-binary-k05-p01").train(), BLOCK, THREAT, SPEC, 0)


def test_queries_that_the_attack_did_not_return_count_only_in_robust_to_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    threat = ThreatModel("Linf", Fraction(32, 255))
    adversarial = attacks.run(SPEC, AttackCall(MODEL, *BLOCK.tensors(), threat, 0)).adversarial

    def run(spec: object, call: AttackCall, classes: int) -> AttackResult:
        rows = [int((BLOCK.tensors()[0] == image).flatten(1).all(1).nonzero()) for image in call.images]
        call.model(adversarial[rows])
        return AttackResult(call.images, (None,) * len(call.images))

    expected = (MODEL(adversarial).argmax(1) == BLOCK.tensors()[1]).numpy()
    monkeypatch.setattr(attacks, "run", run)
    frame = evaluate_unit(MODEL, BLOCK, threat, SPEC, 0).frame
    attacked = frame["clean_prediction"] == frame["label"]
    assert frame["robust"].tolist() == attacked.tolist()
    assert frame["robust_to_seen"].tolist() == (attacked & expected).tolist() != attacked.tolist()


class Stochastic(torch.nn.Module):
    """A model with random noise added to its logits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = MODEL(images)
        return logits + 0.5 * torch.randn_like(logits)


def test_a_stochastic_model_must_be_declared_and_is_judged_by_mean_logits() -> None:
    with pytest.raises(RefusedError, match="stochastic"):
        evaluate_unit(Stochastic().eval(), BLOCK, THREAT, SPEC, 0)
    state = torch.get_rng_state()
    first, second = (evaluate_unit(Stochastic().eval(), BLOCK, THREAT, SPEC, 0, draws=(4, 100)).frame for _ in range(2))
    assert first.equals(second) and torch.equal(torch.get_rng_state(), state)
    deterministic = evaluate_unit(MODEL, BLOCK, THREAT, SPEC, 0).frame
    is_confident = (MODEL(BLOCK.tensors()[0]).topk(2).values.diff(dim=1).abs() > 0.3).flatten().numpy()
    assert is_confident.sum() >= 5 and (first["clean_prediction"] == deterministic["clean_prediction"])[is_confident].all()


def test_a_declared_surrogate_strengthens_attacks_on_sign_activations() -> None:
    block = datasets.load("cifar10-sample").first(60)
    model = Signs(toy("sign"))
    exact, declared = (evaluate_unit(model, block, TOY_THREAT, SPEC, 0, backward=backward).frame for backward in ("exact", "ste"))
    assert exact["clean_prediction"].equals(declared["clean_prediction"])
    assert exact["robust"].mean() - declared["robust"].mean() > 0.1


class Signs(torch.nn.Module):
    """A toy model with torch.sign as its activation."""

    def __init__(self, model: Toy) -> None:
        super().__init__()
        self.model = model
        model.activation = torch.sign
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(images)
        return logits
