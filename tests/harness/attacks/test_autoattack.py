"""Tests that the AutoAttack adapter reproduces pyautoattack called directly, without the side effects of the package."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction

import pyautoattack.checks
import pytest
import torch
from pyautoattack import AutoAttack

from harness import attacks
from harness.attacks import AttackCall
from harness.attacks.packages.autoattack import package_seed
from harness.attacks.packages.autoattack_flags import FlagCollector
from harness.evaluation.meter import Meter
from harness.evaluation.referee import judge
from harness.randomness import isolated
from harness.runner.protocol import DRAWS
from model_zoo.errors import UsageError
from model_zoo.threat import ThreatModel

SEED = 2**63 + 12345


def shortened(**changes):
    spec = attacks.get("autoattack")
    quick = {"apgd_n_iter": 10, "targets": 3, "fab_n_iter": 5, "square_n_queries": 100}
    return replace(spec, parameters={**spec.parameters, **quick, **changes})


def kinds(result):
    return [flag.kind for flag in result.flags]


@pytest.mark.parametrize(("scale", "component"), [(1.0, "apgd-ce"), (1e4, "apgd-t")])
def test_reproduces_the_standard_version_bit_for_bit(victim, rewired, linf, scale, component):
    """Compare examples and broken images with the package; large logits blind the cross-entropy, so a later component is needed."""
    images, labels = victim.first(6)
    model = rewired(victim.model, lambda logits: logits * scale)
    result = attacks.run(attacks.get("autoattack"), AttackCall(model, images, labels, linf, SEED))
    with isolated(0):
        package = AutoAttack(model, eps=linf.epsilon, seed=package_seed(SEED), version="standard")
        expected, predictions = package.run_standard_evaluation(images, labels, batch_size=250)
    broken = [component is not None for component in result.broken_by]
    assert broken == (predictions != labels).tolist()
    assert result.adversarial.numpy().tobytes() == expected.numpy().tobytes()
    assert 0 < sum(broken) < 6
    assert component in result.broken_by


def test_surviving_images_are_batched_as_in_the_package(victim, linf):
    """Compare with the package for small batches: later components get the survivors of several batches in one batch."""
    images, labels = victim.first(30)
    spec = shortened(components=["apgd-ce", "apgd-t", "square"], apgd_n_iter=100, batch_size=8, targets=9)
    result = attacks.run(spec, AttackCall(victim.model, images, labels, linf, SEED))
    with isolated(0):
        package = AutoAttack(victim.model, eps=linf.epsilon, seed=package_seed(SEED), version="standard")
        package.attacks_to_run, package.square.n_queries = ["apgd-ce", "apgd-t", "square"], 100
        expected, predictions = package.run_standard_evaluation(images, labels, batch_size=8)
    assert [component is not None for component in result.broken_by] == (predictions != labels).tolist()
    assert torch.equal(result.adversarial, expected)


def test_package_seed_is_the_low_half_of_the_unit_seed(victim, linf):
    """Use Square, which draws the most random numbers: gradient attacks can end in the same corner of the ball for any seed."""
    images, labels = victim.first(40)
    spec = shortened(components=["square"])
    result = attacks.run(spec, AttackCall(victim.model, images, labels, linf, SEED))
    with isolated(0):
        package = AutoAttack(victim.model, eps=linf.epsilon, seed=package_seed(SEED), version="standard")
        package.attacks_to_run, package.square.n_queries = ["square"], 100
        expected, _ = package.run_standard_evaluation(images, labels, batch_size=250)
    assert torch.equal(result.adversarial, expected)
    assert not torch.equal(attacks.run(spec, AttackCall(victim.model, images, labels, linf, SEED + 1)).adversarial, expected)
    assert torch.equal(attacks.run(spec, AttackCall(victim.model, images, labels, linf, SEED % 2**32)).adversarial, expected)


@pytest.fixture
def settings_of(monkeypatch, victim, linf):
    """Return a function that records the settings of the package's four attacks, as the adapter makes them, without running them."""

    def run(spec):
        recorded = []

        def record(package, images, labels, *, batch_size):
            recorded.append((settings(package), batch_size))
            return images, labels

        with monkeypatch.context() as patch:
            patch.setattr(AutoAttack, "run_standard_evaluation", record)
            attacks.run(spec, AttackCall(victim.model, *victim.first(3), linf, SEED))
        assert all(entry == recorded[0] for entry in recorded)
        return recorded[0]

    return run


def settings(package):
    parts = {"apgd": package.apgd, "apgd_targeted": package.apgd_targeted, "fab": package.fab, "square": package.square}
    simple = (bool, int, float, str, type(None), torch.device)
    return {
        f"{part}.{key}": str(value) if key == "device" else value
        for part, attack in parts.items()
        for key, value in vars(attack).items()
        if isinstance(value, simple)
    }


@pytest.mark.parametrize(("seed", "expected"), [(0, 0), (2**32 - 1, 2**32 - 1), (2**32, 0), (2**64 - 1, 2**32 - 1), (SEED, 12345)])
def test_the_package_seed_fits_every_generator(seed, expected):
    assert package_seed(seed) == expected
    with isolated(seed):
        expected_numbers = torch.rand(3)
        torch.manual_seed(package_seed(seed))
        assert torch.equal(torch.rand(3), expected_numbers)


def test_default_settings_equal_the_standard_version(victim, linf, settings_of):
    package = AutoAttack(victim.model, eps=linf.epsilon, seed=package_seed(SEED), version="standard")
    ours, batch_size = settings_of(attacks.get("autoattack"))
    assert ours == settings(package)
    assert len(ours) > 50
    assert batch_size == 250


@pytest.mark.parametrize(
    ("parameter", "value", "setting"),
    [
        ("targets", 5, "apgd_targeted.n_target_classes fab.n_target_classes"),
        ("apgd_n_iter", 50, "apgd.n_iter apgd.n_iter_2 apgd_targeted.n_iter apgd_targeted.n_iter_min"),
        ("apgd_restarts", 3, "apgd.n_restarts apgd_targeted.n_restarts"),
        ("apgd_rho", 0.5, "apgd.thr_decr apgd_targeted.thr_decr"),
        ("apgd_eot_iter", 2, "apgd.eot_iter apgd_targeted.eot_iter"),
        ("fab_n_iter", 7, "fab.n_iter"),
        ("fab_restarts", 2, "fab.n_restarts"),
        ("fab_alpha_max", 0.2, "fab.alpha_max"),
        ("fab_eta", 1.2, "fab.eta"),
        ("fab_beta", 0.5, "fab.beta"),
        ("square_n_queries", 9, "square.n_queries"),
        ("square_restarts", 2, "square.n_restarts"),
        ("square_p_init", 0.3, "square.p_init"),
        ("square_loss", "ce", "square.loss"),
        ("square_rescale_schedule", True, "square.rescale_schedule"),
    ],
)
def test_every_parameter_reaches_the_package(settings_of, parameter, value, setting):
    spec = attacks.get("autoattack")
    before, _ = settings_of(spec)
    after, _ = settings_of(replace(spec, parameters={**spec.parameters, parameter: value}))
    changed = {key for key in before if before[key] != after[key]}
    assert set(setting.split()) <= changed
    assert {key.split(".")[0] for key in changed} == {key.split(".")[0] for key in setting.split()}


def test_images_are_credited_to_the_first_component_that_breaks_them(victim, linf):
    images, labels = victim.first(40)
    result = attacks.run(shortened(), AttackCall(victim.model, images, labels, linf, 1))
    components = [component for component in result.broken_by if component is not None]
    assert set(components) <= {"apgd-ce", "apgd-t", "fab-t", "square"}
    first = attacks.run(shortened(components=["apgd-ce"]), AttackCall(victim.model, images, labels, linf, 1))
    assert [component == "apgd-ce" for component in result.broken_by] == [component is not None for component in first.broken_by]


def test_an_image_misclassified_without_attack_is_credited_to_clean(victim, linf):
    images, labels = victim.first(6)
    wrong = labels.clone()
    wrong[2] = (wrong[2] + 1) % 10
    result = attacks.run(shortened(), AttackCall(victim.model, images, wrong, linf, 1))
    assert result.broken_by[2] == "clean"
    assert torch.equal(result.adversarial[2], images[2])
    assert "clean" not in result.broken_by[:2] + result.broken_by[3:]


@pytest.mark.parametrize(("classes", "components"), [(10, {"apgd-t", "fab-t"}), (4, {"apgd-t", "fab-t"}), (3, {"fab"}), (2, {"fab"})])
def test_components_depend_on_the_number_of_classes(victim, rewired, linf, classes, components):
    model = rewired(victim.model, lambda logits: logits[:, :classes])
    rows = ((victim.labels < classes) & (model(victim.images).argmax(1) == victim.labels)).nonzero().flatten()[:12]
    reported = []
    attacks.run(
        shortened(targets=9),
        AttackCall(model, victim.images[rows], victim.labels[rows], linf, 1, lambda _, component: reported.append(component)),
    )
    assert set(reported) == {"apgd-ce", "square"} | components


def test_a_dynamic_model_is_flagged_and_later_runs_are_not(victim, linf):
    class Dynamic(torch.nn.Module):
        def forward(self, batch):
            with torch.enable_grad():
                probe = batch.detach().requires_grad_()
                torch.autograd.grad(victim.model(probe).sum(), probe)
            return victim.model(batch)

    spec = shortened(components=["apgd-ce", "square"], square_n_queries=5)
    assert kinds(attacks.run(spec, AttackCall(Dynamic().eval(), *victim.first(8), linf, 1))) == ["dynamic"]
    assert attacks.run(spec, AttackCall(victim.model, *victim.first(8), linf, 1)).flags == ()
    assert pyautoattack.checks.funcs.keys() == {"grad", "backward", "_make_grads"}


def test_a_meter_around_the_model_raises_no_flag_and_changes_nothing(victim, linf):
    """The package detects dynamic models by the names of functions that are called in a forward pass; the meter must not match."""
    images, labels = victim.first(12)
    meter = Meter(victim.model, images, labels, linf)
    expected = attacks.run(shortened(), AttackCall(victim.model, images, labels, linf, 1))
    result = attacks.run(shortened(), AttackCall(meter, images, labels, linf, 1))
    assert result.flags == expected.flags == ()
    assert result.broken_by == expected.broken_by
    assert torch.equal(result.adversarial, expected.adversarial)
    survived = torch.tensor([component is None for component in result.broken_by])
    # APGD-CE: start and 10 iterations; APGD-T: the same for each of 3 targets; FAB-T: 5 iterations for each of 3; Square: 100 queries.
    assert survived.any()
    assert int(meter.forwards[survived].min()) >= 11 + 3 * 11 + 3 * 10 + 100


def test_zero_gradients_and_images_broken_by_square_alone_are_flagged_once(victim, linf):
    class Steps(torch.nn.Module):
        def forward(self, batch):
            return victim.model((batch * 128).round() / 128)

    model = Steps().eval()
    rows = (model(victim.images).argmax(1) == victim.labels).nonzero().flatten()[:40]
    result = attacks.run(shortened(square_n_queries=500), AttackCall(model, victim.images[rows], victim.labels[rows], linf, 1))
    assert sorted(kinds(result)) == ["square-helps", "zero-gradient"]
    assert "square" in result.broken_by
    messages = {flag.kind: flag.message for flag in result.flags}
    helped = sum(component == "square" for component in result.broken_by) / len(rows)
    assert f"{helped:.2%}" in messages["square-helps"]


def test_randomised_models_and_probabilities_are_flagged(victim, rewired, linf):
    noisy = rewired(victim.model, lambda logits: logits + torch.randn_like(logits))
    spec = shortened(components=["apgd-ce"])
    assert "randomized" in kinds(attacks.run(spec, AttackCall(noisy, *victim.first(4), linf, 1)))
    soft = rewired(victim.model, lambda logits: logits.softmax(1))
    assert kinds(attacks.run(spec, AttackCall(soft, *victim.first(4), linf, 1))) == ["probabilities"]


def test_logger_is_restored_and_nothing_is_printed(victim, linf, caplog, capfd):
    logger = logging.getLogger("auto-attack")
    user_handler = logging.StreamHandler()
    logger.addHandler(user_handler)
    logger.setLevel(logging.ERROR)
    try:
        with caplog.at_level(logging.DEBUG):
            soft = torch.nn.Sequential(victim.model, torch.nn.Softmax(1)).eval()
            result = attacks.run(shortened(components=["apgd-ce"]), AttackCall(soft, *victim.first(4), linf, 1))
        assert kinds(result) == ["probabilities"]
        assert user_handler in logger.handlers
        assert not any(isinstance(handler, FlagCollector) for handler in logger.handlers)
        assert (logger.level, logger.propagate) == (logging.ERROR, True)
    finally:
        logger.removeHandler(user_handler)
        logger.setLevel(logging.NOTSET)
    assert caplog.records == []
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_repeated_flags_keep_the_largest_count():
    collector = FlagCollector()
    for count in (3, 12, 5):
        message = f"there are {count} points with zero gradient!"
        collector.handle(logging.LogRecord("auto-attack", logging.WARNING, __file__, 1, message, None, None))
    collector.handle(logging.LogRecord("auto-attack", logging.WARNING, __file__, 1, "something new", None, None))
    assert [(flag.kind, flag.message) for flag in collector.flags] == [
        ("zero-gradient", "there are 12 points with zero gradient!"),
        ("other", "something new"),
    ]


def test_attacks_in_the_l2_norm(victim):
    threat = ThreatModel("L2", Fraction(1, 2))
    images, labels = victim.first(10)
    result = attacks.run(replace(shortened(), norm="L2"), AttackCall(victim.model, images, labels, threat, 1))
    assert float((result.adversarial - images).flatten(1).norm(dim=1).max()) <= threat.epsilon + 1e-6
    assert any(component is not None for component in result.broken_by)


def test_the_l1_specification_equals_the_standard_version(victim, monkeypatch):
    """Compare all settings of the package's attacks with those of its standard version in L1."""
    threat, images, labels = ThreatModel("L1", Fraction(12)), *victim.first(3)
    recorded = []

    def record(package, images, labels, *, batch_size):
        recorded.append(settings(package))
        return images, labels

    with monkeypatch.context() as patch:
        patch.setattr(AutoAttack, "run_standard_evaluation", record)
        attacks.run(attacks.get("autoattack-l1"), AttackCall(victim.model, images, labels, threat, SEED))
    standard = AutoAttack(victim.model, norm="L1", eps=12.0, seed=package_seed(SEED), version="standard")
    assert all(each == settings(standard) for each in recorded)


def test_examples_in_l1_are_within_the_tolerance_of_the_referee(victim):
    threat, images, labels = ThreatModel("L1", Fraction(12)), *victim.first(8)
    quick = {"apgd_n_iter": 20, "apgd_restarts": 1, "apgd_t_targets": 2, "targets": 2, "fab_n_iter": 5, "square_n_queries": 50}
    spec = attacks.get("autoattack-l1")
    for component in spec.parameters["components"]:
        alone = replace(spec, parameters={**spec.parameters, **quick, "components": [component]})
        verdict = judge(
            victim.model, images, attacks.run(alone, AttackCall(victim.model, images, labels, threat, 1)).adversarial, labels, threat
        )
        assert verdict.legal.all()


def test_l1_needs_its_own_adapter(victim):
    for name, threat in (("autoattack", ThreatModel("L1", Fraction(12))), ("autoattack-l1", ThreatModel("L2", Fraction(1, 2)))):
        with pytest.raises(UsageError, match="the adapter"):
            attacks.run(replace(attacks.get(name), norm=threat.norm), AttackCall(victim.model, *victim.first(2), threat, 1))


def test_the_version_for_stochastic_models_is_that_of_the_package(victim, linf):
    """Its gradients are means over 20 draws; the harness takes the mean over 20 draws in every query of a stochastic model."""
    package = AutoAttack(victim.model, eps=linf.epsilon, seed=1, version="rand")
    spec = attacks.get("autoattack-rand")
    assert spec.parameters["components"] == package.attacks_to_run
    assert spec.parameters["apgd_restarts"] == package.apgd.n_restarts
    assert package.apgd.eot_iter == spec.parameters["apgd_eot_iter"] * DRAWS[0]
