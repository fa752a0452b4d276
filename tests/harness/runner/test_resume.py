"""Tests that AutoAttack, killed between two components, resumes with the next one and gives the same outcome."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import attacks, datasets
from harness.attacks.common import Flag
from harness.attacks.memory import Saved
from harness.attacks.native import pool
from harness.attacks.packages import autoattack
from harness.evaluation.unit import evaluate_unit
from harness.runner.partial import PartialFile
from harness.selftest.toys import THREAT, toy

# With a `square_progress` of 0, every component of the cascade has images to attack.
SHORT = {
    "apgd_n_iter": 8,
    "fab_n_iter": 4,
    "square_n_queries": 60,
    "targets": 3,
    "square_least": 20,
    "square_progress": 0.0,
    "rays_queries": 20,
}
BLOCK = datasets.load("cifar10-sample").first(60)


class Killed(BaseException):
    """Stands for SIGKILL: no code catches it."""


# Per attack: its module, the function that runs one component, and the position of the component's name in the arguments.
ATTACKS = {"autoattack": (autoattack, "run_component", 0), "fast-autoattack": (pool, "run", 1), "cascade": (pool, "run", 1)}


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_killed_unit_resumes_with_the_next_component(name: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = attacks.get(name)
    spec = replace(spec, parameters={key: SHORT.get(key, value) for key, value in spec.parameters.items()})
    module, function, position = ATTACKS[name]
    expected = evaluate_unit(toy("relu"), BLOCK, THREAT, spec, 5)
    memory, run, attacked = PartialFile(tmp_path / "unit.safetensors"), getattr(module, function), []

    def run_until_killed(*args, **kwargs):
        if len(attacked) == after:
            raise Killed
        attacked.append(args[position])
        return run(*args, **kwargs)

    monkeypatch.setattr(module, function, run_until_killed)
    with pytest.raises(Killed):
        evaluate_unit(toy("relu"), BLOCK, THREAT, spec, 5, memory=memory)
    assert attacked == spec.parameters["components"][:after]

    def run_and_record(*args, **kwargs):
        attacked.append(args[position])
        return run(*args, **kwargs)

    monkeypatch.setattr(module, function, run_and_record)
    outcome = evaluate_unit(toy("relu"), BLOCK, THREAT, spec, 5, memory=memory)
    assert attacked == spec.parameters["components"]
    assert outcome.frame.equals(expected.frame)
    assert outcome.flags == expected.flags and outcome.boundary_flips == expected.boundary_flips
    # Every component had images to attack: the first one broke some, and some survived all components.
    assert spec.parameters["components"][0] in set(expected.frame["broken_by"]) and expected.frame["broken_by"].isna().any()


def test_partial_state_round_trip(tmp_path: Path) -> None:
    saved = Saved(("apgd-ce",), {"adversarial": torch.rand(2, 3, 4, 4), "broken_in": torch.tensor([0, 4])}, (Flag("dynamic", "why"),))
    memory = PartialFile(tmp_path / "deep" / "unit.safetensors")
    assert memory.load() is None
    memory.save(saved)
    loaded = memory.load()
    assert loaded is not None and loaded.done == saved.done and loaded.flags == saved.flags
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)
    memory.forget()
    assert memory.load() is None


@pytest.mark.parametrize("damage", [lambda content: content[:50], lambda content: b"", lambda content: content[:-7]])
def test_a_damaged_partial_state_is_ignored(damage, tmp_path: Path) -> None:
    memory = PartialFile(tmp_path / "unit.safetensors")
    memory.save(Saved((), {"adversarial": torch.rand(2, 3, 4, 4)}))
    memory.path.write_bytes(damage(memory.path.read_bytes()))
    assert memory.load() is None
